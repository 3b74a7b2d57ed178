-- The $1 entities with the most open events.
{heads}
order by open desc, entity
limit $1
