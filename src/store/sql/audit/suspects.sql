-- Open events of the partitions $1, from $2 to $3, that somebody should have in hand.
with mine as materialized (
  select event_id, partition, entity, position, state, attempts, parked
  from open_event
  where event_id between $2 and $3
    and partition = any($1)
),
-- Of each line, the first of these events may be its head; which one is, is for audit/confirm_ready to say: of a busy
-- line, that takes longer, and almost always somebody has it in hand.
firsts as (
  select distinct on (entity) *
  from mine
  order by entity, position, event_id
),
orphans as (
  select m.*
  from mine m
  left join lateral (select id from event where id = m.event_id offset 0) e on true
  where e.id is null
)
select event_id, partition, entity, attempts, state, false as orphan
from mine
where state = 'IN_FLIGHT'
union all
select event_id, partition, entity, attempts, state, false
from firsts
where state = 'PENDING'
  and not parked
union all
select event_id, partition, entity, attempts, state, true
from orphans
