-- Takes the mark from up to $5 parked events of the host $2 in the partitions $1: from the first one, and from what
-- fits into $4 bytes of body with those before it. The oldest come first; if $6, those with the fewest attempts do.
-- None of the entities $7, which are paused.
with chosen as (
  select
    event_id,
    sum(body_bytes) over (order by spent, event_id) - body_bytes as bytes_before
  from (
    select p.event_id, p.body_bytes, p.spent
    from unnest($1::int4[]) as a (partition)
    -- Each partition's first events of the host, in the order of the index open_event_waiting: all that wait are not
    -- sorted.
    cross join lateral (
      select event_id, body_bytes, case when $6 then attempts else 0 end as spent
      from open_event
      where parked
        and partition = a.partition
        and host = $2
        and entity <> all($7::text[])
      order by event_id + 0
      limit $3
    ) p
    order by p.spent, p.event_id
    limit $5
  ) first
),
unparked as (
  update open_event o
  set parked = false
  from chosen c
  -- Says the same as the join: this is what only the primary key is good for.
  where o.event_id = any(array(select event_id from chosen))
    and o.event_id = c.event_id
    and (c.bytes_before = 0 or c.bytes_before < $4)
  returning o.*
)
select
  {stored_columns},
  e.body
from unparked o
{its_event}
