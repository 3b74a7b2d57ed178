-- Locks the line of the event $1, as for an arrival: it may be elsewhere by now, or about to be.
select destination
from event, pg_advisory_xact_lock(hashtextextended(entity, 0))
where id = $1
