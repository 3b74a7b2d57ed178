-- The fronts of the lines $1: of each, the first $2 events, and of these the first one and what fits into $3 bytes of
-- body with those before it. The lines go on behind the positions $5 and numbers $6; $4 is the position of what was
-- redriven.
select
  o.state,
  o.position,
  s.next_sequence,
  f.goes_on,
  {stored_columns},
  e.body
from unnest($1::text[], $5::int8[], $6::int8[]) as a (line, floor_position, floor_id)
-- A window over the narrow table chooses the rows before any body is read.
cross join lateral (
  select
    event_id,
    position,
    row_number() over w as place,
    sum(body_bytes) over w - body_bytes as bytes_before,
    lead(event_id) over w is not null as goes_on
  from (
    select *
    from (
      -- One more than is wanted, to see whether the line goes on.
      (
        select event_id, position, body_bytes
        from open_event
        where entity = a.line
          and position = $4
        order by event_id + 0
        limit $2 + 1
      )
      union all
      (
        select event_id, position, body_bytes
        from open_event
        where entity = a.line
          and {is_behind_floor}
        order by position, event_id + 0
        limit $2 + 1
      )
    ) o
    order by position, event_id
    limit $2 + 1
  ) line
  window w as (order by position, event_id)
) f
cross join lateral (select * from open_event where event_id = f.event_id offset 0) o
cross join lateral (select * from event where id = f.event_id offset 0) e
left join lateral (select * from entity_sequence where entity = a.line offset 0) s on true
where f.place = 1
  or (f.place <= $2 and f.bytes_before < $3)
order by f.place
