-- Retries of the partitions $1 that are overdue by more than $2 milliseconds, $3 at most, behind the one of $4 (when it
-- was due, in microseconds since 1970) and $5 (its event).
select
  event_id,
  attempts,
  partition,
  entity,
  (extract(epoch from due_at) * 1000000)::int8 as due_us
from open_event
where partition = any($1)
  and not parked
  and state = 'RETRY_WAIT'
  and due_at < clock_timestamp() - $2 * interval '1 ms'
  and (due_at, event_id) > (timestamptz 'epoch' + $4 * interval '1 microsecond', $5)
order by due_at, event_id
limit $3
