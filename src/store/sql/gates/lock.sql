-- The gates of the hosts $1, until the end of the transaction; in an order, so that nobody waits for another in a
-- circle.
select
  host,
  state,
  version,
  probes,
  (extract(epoch from since) * 1000)::int8 as since_ms,
  (
    extract(epoch from case when changed_at > clock_timestamp() then clock_timestamp() else next_at end) * 1000
  )::int8 as next_ms,
  reason
from gate
where host = any($1)
order by host
for update
