-- The events $1, whose retry is due: each with its body, how long it has waited, and how late its turn is.
select
  (extract(epoch from clock_timestamp() - o.changed_at) * 1000)::int8 as waited_ms,
  (extract(epoch from clock_timestamp() - o.due_at) * 1000)::int8 as late_ms,
  {stored_columns},
  e.body
from open_event o
{its_event}
where o.event_id = any($1)
  and o.due_at is not null
