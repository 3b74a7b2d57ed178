-- Gives back the partitions $2 of the member $1, as far as their epochs are still $3: gracefully or not ($4).
update partition p
set owner = null, owner_name = null, expires_at = null, graceful = given.graceful
from unnest($2::int4[], $3::int8[], $4::bool[]) as given (id, epoch, graceful)
where p.owner = $1
  and p.id = given.id
  and p.epoch = given.epoch
