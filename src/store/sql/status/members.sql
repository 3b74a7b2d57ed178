-- All workers, the first to come first.
select
  m.name,
  case
    when m.gone = m.expires_at then 'gone'
    when m.leaving then 'leaves'
    when m.host_share = 0 then 'stands by'
    else 'works'
  end as state,
  extract(epoch from clock_timestamp() - m.joined_at)::float8 as since_seconds,
  extract(epoch from m.expires_at - clock_timestamp())::float8 as lease_seconds,
  m.host_share,
  count(p.id) as partitions,
  coalesce(sum(o.open), 0)::int8 as open,
  coalesce(sum(o.in_flight), 0)::int8 as in_flight,
  m.destinations,
  m.destinations_refused,
  m.limited,
  m.limits
from member m
left join partition p on p.owner = m.id
left join ({open_by_partition}) o on o.partition = p.id
group by m.id
order by m.joined_at, m.id
