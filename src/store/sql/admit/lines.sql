-- Of the entities $1: the number that each waits for, the first of its open events, and whether the owner of its line
-- has yet to look at one that came in elsewhere. Their lines go on behind the positions $3 and numbers $4; $2 is the
-- position of what was redriven.
select
  a.entity,
  s.next_sequence,
  o.position,
  o.partition,
  exists (select from stray r where r.partition = o.partition and r.entity = a.entity) as unseen
from unnest($1::text[], $3::int8[], $4::int8[]) as a (entity, floor_position, floor_id)
left join lateral (select * from entity_sequence where entity = a.entity offset 0) s on true
left join lateral (
  -- Each of the two looks takes one entry of the index; what was redriven comes before all else.
  select position, partition
  from (
    (select position, partition from open_event where entity = a.entity and position = $2 limit 1)
    union all
    (
      select position, partition
      from open_event
      where entity = a.entity
        and {is_behind_floor}
      order by position, event_id + 0
      limit 1
    )
  ) f
  order by position
  limit 1
) o on true
