-- What is paused, $1 at most.
select
  scope,
  name,
  why,
  by,
  extract(epoch from clock_timestamp() - paused_at)::float8 as since_seconds,
  extract(epoch from until - clock_timestamp())::float8 as until_seconds
from pause
where until is null
  or until > clock_timestamp()
order by scope, name
limit $1
