-- The $1 hosts with the most open events.
select
  host,
  count(*) as open,
  count(*) filter (where state = 'IN_FLIGHT') as in_flight,
  count(*) filter (where state = 'RETRY_WAIT') as retry_wait,
  count(*) filter (where parked) as parked
from open_event
group by host
order by open desc, host
limit $1
