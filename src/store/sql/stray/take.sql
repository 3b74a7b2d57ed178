-- Takes notes for the owner of the partitions $1, $2 at most.
delete from stray
where event_id = any(
  array(
    select event_id
    from stray
    where partition = any($1)
    order by event_id
    limit $2
  )
)
returning entity
