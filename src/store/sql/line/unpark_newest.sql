-- Takes the mark from the newest parked event of the host $2 in the partitions $1, but for those of the entities $3.
with chosen as (
  select p.event_id
  from unnest($1::int4[]) as a (partition)
  -- By the index open_event_waiting, from its end.
  cross join lateral (
    select event_id
    from open_event
    where parked
      and partition = a.partition
      and host = $2
      and entity <> all($3::text[])
    order by event_id + 0 desc
    limit 1
  ) p
  order by p.event_id desc
  limit 1
),
unparked as (
  update open_event o
  set parked = false
  from chosen c
  -- Says the same as the join: this is what only the primary key is good for.
  where o.event_id = any(array(select event_id from chosen))
    and o.event_id = c.event_id
  returning o.*
)
select
  {stored_columns},
  e.body
from unparked o
{its_event}
