-- Open events by state.
select
  state,
  count(*) as events,
  extract(epoch from clock_timestamp() - min(changed_at))::float8 as oldest_seconds
from open_event
group by state
order by state
