-- The broker has confirmed the dead letter of the event $1, of its failure at $4, under the lease on the partition $2
-- with the epoch $3.
update dead_letter d
set published_at = clock_timestamp()
from partition p
where d.event_id = $1
  and {failed_us} = $4
  and p.id = $2
  and p.epoch = $3
  and p.owner is not null
