-- All partitions and their owners.
select
  p.id as partition,
  p.owner_name as owner,
  p.epoch,
  extract(epoch from clock_timestamp() - case when p.owner is not null then p.acquired_at end)::float8
    as since_seconds,
  extract(epoch from m.expires_at - clock_timestamp())::float8 as lease_seconds,
  coalesce(o.open, 0) as open,
  coalesce(o.in_flight, 0) as in_flight
from partition p
left join member m on m.id = p.owner
left join ({open_by_partition}) o on o.partition = p.id
order by p.id
