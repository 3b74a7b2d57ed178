-- The first in each entity's line, with what it waits for. A number that is not the entity's next one waits for it.
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
  case
    when state = 'IN_FLIGHT' then 'attempt'
    when state = 'RETRY_WAIT' then case when parked then 'host' else 'retry' end
    when state = 'FAILED' then 'operator'
    when position >= 0 and position <> next_sequence then 'sequence ' || next_sequence
    when parked then 'host'
    else 'turn'
  end as waits_for,
  extract(epoch from clock_timestamp() - changed_at)::float8 as since_seconds,
  extract(epoch from due_at - clock_timestamp())::float8 as until_seconds,
  host
from head
