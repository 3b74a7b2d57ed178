-- The $1 entities that have been blocked for longest.
select *
from ({heads}) e
-- What is neither in flight nor has its turn.
where state in ('RETRY_WAIT', 'FAILED')
  or (state = 'PENDING' and (parked or (position >= 0 and position <> next_sequence)))
order by since_seconds desc, entity
limit $1
