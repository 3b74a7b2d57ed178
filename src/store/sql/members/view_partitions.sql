-- Who has each partition.
select owner, epoch
from partition
order by id
