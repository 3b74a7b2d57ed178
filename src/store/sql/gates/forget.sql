-- Forgets gates that have been open for long enough, those that nobody has had anything to probe with for $1
-- milliseconds, pauses whose time is over, and limits that nobody has found for as long.
with over as (
  delete from pause
  where until < clock_timestamp() - interval '1 minute'
),
unused as (
  delete from host_limit
  where found_at < clock_timestamp() - $1 * interval '1 millisecond'
)
delete from gate
where (state = 'open' and next_at < clock_timestamp())
  or next_at < clock_timestamp() - $1 * interval '1 millisecond'
