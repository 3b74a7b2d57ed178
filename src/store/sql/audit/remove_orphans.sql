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
  set next_sequence = r.last + 1
  from (
    -- Numbers that follow one another are as far from their places among all that is gone of the line. It goes on
    -- behind those that begin with the number it waits for.
    select entity, min(position) as first, max(position) as last
    from (
      select entity, position, position - row_number() over (partition by entity order by position) as run
      from gone
      where position > $2
    ) numbered
    group by entity, run
  ) r
  -- Says the same as the join: this is what only the primary key is good for.
  where s.entity = any(array(select entity from gone))
    and s.entity = r.entity
    and s.next_sequence = r.first
)
select event_id, entity from gone
