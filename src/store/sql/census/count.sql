-- Counts the open events of the partitions $1. Reads each of them, but no body.
with mine as (
  select event_id, entity, position, state
  from open_event
  where partition = any($1)
),
heads as (
  select entity, min(position) as position
  from mine
  group by entity
)
select
  count(*) filter (where state = 'PENDING') as pending,
  count(*) filter (where state = 'IN_FLIGHT') as in_flight,
  count(*) filter (where state = 'RETRY_WAIT') as retry_wait,
  count(*) filter (where state = 'FAILED') as held,
  (
    select count(*)
    from heads h
    join entity_sequence s on s.entity = h.entity
    where h.position > s.next_sequence
  ) as gaps,
  (
    select (extract(epoch from clock_timestamp() - e.recorded_at) * 1000)::int8
    from event e
    where e.id = (select min(event_id) from mine)
  ) as oldest_ms
from mine
