-- Dead letters of the partitions $1, behind the event $4, that have waited for more than $2 milliseconds; $3 at most.
select event_id, partition
from dead_letter
where published_at is null
  and partition = any($1)
  and failed_at < clock_timestamp() - $2 * interval '1 ms'
  and event_id > $4
order by event_id
limit $3
