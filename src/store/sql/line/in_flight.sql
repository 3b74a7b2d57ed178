-- Those of the events $1 whose attempt is recorded as in flight, without their bodies.
select
  {stored_columns},
  ''::bytea as body
from open_event o
{its_event}
where o.state = 'IN_FLIGHT'
  and o.event_id = any($1)
