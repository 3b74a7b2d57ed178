-- The attempts $2 of the events $1 are over: the events wait in the states $3, for $4 milliseconds. An unknown outcome
-- ($5) is counted, and an attempt that is withdrawn ($6) is not. $7 says why an attempt was not sent.
update open_event o
set
  state = d.state,
  changed_at = clock_timestamp(),
  due_at = clock_timestamp() + d.delay_ms * interval '1 ms',
  unknown = o.unknown + d.unknown::int,
  attempts = o.attempts - d.withdrawn::int,
  withheld = d.withheld,
  withheld_since = case when d.withheld is not null then coalesce(o.withheld_since, clock_timestamp()) end
from (
  select
    ($1::int8[])[i] as event_id,
    ($2::int2[])[i] as attempts,
    ($3::text[])[i] as state,
    ($4::int8[])[i] as delay_ms,
    ($5::bool[])[i] as unknown,
    ($6::bool[])[i] as withdrawn,
    ($7::text[])[i] as withheld
  from generate_subscripts($1::int8[], 1) i
) d
where o.event_id = any($1)
  and o.event_id = d.event_id
  and o.attempts = d.attempts
  and o.state = 'IN_FLIGHT'
returning o.event_id
