-- The gates, $2 at most, as the worker $1 has to know them.
select
  host,
  state,
  version,
  coalesce(state = 'probing' and prober = $1, false) as ours,
  probes,
  reason,
  extract(epoch from clock_timestamp() - since)::float8 as since_seconds,
  extract(
    epoch from least(next_at, case when changed_at > clock_timestamp() then clock_timestamp() end) - clock_timestamp()
  )::float8 as until_seconds
from gate
order by host
limit $2
