-- Whether any open event goes to the host $1: one look-up of each partition, or a look at the gates.
select
  exists (select from gate where host = $1)
  or exists (
    select
    from partition p
    cross join lateral (
      select from open_event o
      where o.partition = p.id
        and o.host = $1
      limit 1
    ) found
  )
