-- Which of the entities' ($1) numbers ($2) open events hold.
select
  o.entity,
  o.position
from open_event o
join (
  select ($1::text[])[i] as entity, ($2::int8[])[i] as position
  from generate_subscripts($1::text[], 1) i
) a on o.entity = a.entity and o.position = a.position
where o.entity = any($1)
