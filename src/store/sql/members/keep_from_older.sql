-- Programs of before migration 6 do not take the partitions of the member $1 for $2 milliseconds more.
update partition p
set expires_at = clock_timestamp() + $2 * interval '1 ms'
from (
  select id
  from partition
  where owner = $1
  -- In the order in which the writer locks them.
  order by id
  for update
) mine
where p.id = mine.id
