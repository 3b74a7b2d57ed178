-- Removes those of the open events $1 whose event is gone; the rest of the line goes on. $2 is the position of what has
-- no number.
with gone as (
  delete from open_event o
  where event_id = any($1)
    and not exists (select from event where id = o.event_id offset 0)
  returning event_id, entity, position
),
advanced as (
  update entity_sequence s
  set next_sequence = g.position + 1
  from gone g
  -- Says the same as the join: this is what only the primary key is good for.
  where s.entity = any(array(select entity from gone))
    and g.position <> $2
    and s.entity = g.entity
    and s.next_sequence = g.position
)
select event_id, entity from gone
