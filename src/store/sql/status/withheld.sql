-- The $1 hosts to which nothing has been sent for longest, for a reason that is not theirs, and the reason of most
-- events.
select
  o.host,
  count(*) as entities,
  extract(epoch from clock_timestamp() - min(o.withheld_since))::float8 as since_seconds,
  mode() within group (order by o.withheld) as why,
  array_remove(array_agg(distinct p.owner_name), null) as workers
from open_event o
join partition p on p.id = o.partition
where o.withheld is not null
group by o.host
order by since_seconds desc, o.host
limit $1
