-- Open events of each partition.
select
  partition,
  count(*) as open,
  count(*) filter (where state = 'IN_FLIGHT') as in_flight
from open_event
group by partition
