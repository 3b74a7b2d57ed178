-- The first and the last of the $2 open events behind $1, and how many they are.
select
  min(event_id),
  max(event_id),
  count(*)
from (
  select event_id
  from open_event
  where event_id > $1
  order by event_id
  limit $2
) page
