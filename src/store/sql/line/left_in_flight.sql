-- Attempts in flight of the partition $1. Without their bodies: nothing is sent of them, and all of them together may
-- be large.
select
  {stored_columns},
  ''::bytea as body
from open_event o
{its_event}
where o.state = 'IN_FLIGHT'
  and o.partition = $1
order by o.event_id
