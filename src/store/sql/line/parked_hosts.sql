-- Hosts, $2 at most, that have parked events in the partitions $1, but for those whose gate is shut. One index look-up
-- for each host of each partition, however many events are parked.
with recursive step (partition, host) as (
  select
    p.id,
    (select min(host) from open_event where parked and partition = p.id)
  from unnest($1::int4[]) as p (id)
  union all
  select
    s.partition,
    (select min(host) from open_event where parked and partition = s.partition and host > s.host)
  from step s
  where s.host is not null
)
select distinct s.host
from step s
where s.host is not null
  and not exists (select from gate g where g.host = s.host and g.state <> 'open' offset 0)
limit $2
