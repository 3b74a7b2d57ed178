-- Of each of the hosts $1: the entities of the partitions $2 that wait for it in the store, up to $3 of a partition,
-- and how long the oldest event of these has been there.
select
  h.host,
  count(w.event_id) as entities,
  (
    select extract(epoch from clock_timestamp() - e.recorded_at)::float8
    from event e
    where e.id = min(w.event_id)
  ) as oldest_seconds
from unnest($1::text[]) as h (host)
cross join unnest($2::int4[]) as a (partition)
cross join lateral (
  select o.event_id
  from open_event o
  where o.parked
    and o.partition = a.partition
    and o.host = h.host
  order by o.event_id + 0
  limit $3
) w
group by h.host
