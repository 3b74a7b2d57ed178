-- The event with the key $1.
select
  s.event_id,
  s.partition,
  s.state,
  {failed_us}
from event_state s
left join dead_letter d on d.event_id = s.event_id
where s.idempotency_key = $1
