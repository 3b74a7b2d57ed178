-- Those of the events $1 that are heads and wait for nothing.
select
  event_id,
  partition,
  entity,
  host
from open_event o
where event_id = any($1)
  and {is_ready}
