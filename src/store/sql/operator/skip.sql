-- The line of the event $1 goes on without it. $2 is the position of what has no number.
with gone as (
  delete from open_event
  where event_id = $1
    and state = 'FAILED'
  returning event_id, attempts, entity, position
),
advanced as (
  update entity_sequence s
  set next_sequence = g.position + 1
  from gone g
  where g.position <> $2
    and s.entity = g.entity
    and s.next_sequence = g.position
)
insert into final_event (event_id, state, attempts)
select event_id, 'FAILED', attempts from gone
