-- Which of the events $1, after so many attempts ($2), wait for a retry, and how long still.
select
  o.event_id,
  o.attempts,
  o.partition,
  (extract(epoch from o.due_at - clock_timestamp()) * 1000)::int8 as early_ms
from (
  select ($1::int8[])[i] as event_id, ($2::int2[])[i] as attempts
  from generate_subscripts($1::int8[], 1) i
) t
join open_event o on o.event_id = t.event_id and o.attempts = t.attempts
where o.event_id = any($1)
  and o.state = 'RETRY_WAIT'
  and not o.parked
