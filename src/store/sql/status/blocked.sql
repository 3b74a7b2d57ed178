-- The $1 entities that have been blocked for longest.
select *
from ({heads}) e
where waits_for not in ('attempt', 'turn')
order by since_seconds desc, entity
limit $1
