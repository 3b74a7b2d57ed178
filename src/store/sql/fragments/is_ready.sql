-- The open event o is the head of its line and waits for nothing, yet is not parked.
o.state = 'PENDING'
and not o.parked
and not exists (
  select from open_event p
  where p.entity = o.entity
    -- In the order of the index open_event_order, which holds `event_id + 0`.
    and (p.position, p.event_id + 0) < (o.position, o.event_id)
  offset 0
)
-- A number has to be the one that the entity waits for; what has none is below 0.
and (
  o.position < 0
  or exists (select from entity_sequence s where s.entity = o.entity and s.next_sequence = o.position)
)
