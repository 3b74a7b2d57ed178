-- The first in each entity's line, with what tells what it waits for.
with line as (
  select
    *,
    row_number() over (partition by entity order by position, event_id) as place,
    count(*) over (partition by entity) as open
  from open_event
),
head as (
  select l.*, s.next_sequence
  from line l
  left join entity_sequence s on s.entity = l.entity
  where l.place = 1
)
select
  entity,
  open,
  state,
  attempts,
  parked,
  position,
  next_sequence,
  extract(epoch from clock_timestamp() - changed_at)::float8 as since_seconds,
  extract(epoch from due_at - clock_timestamp())::float8 as until_seconds,
  host
from head
