-- The partitions $4, as far as they are free and their epochs still are $5, become those of the member $1, by name $2.
with free as (
  select
    p.id,
    p.owner is null and p.graceful as graceful
  from partition p
  -- The epoch is what counts if the row has changed between the look at the owner and its lock.
  join unnest($4::int4[], $5::int8[]) as seen (id, epoch) on p.id = seen.id and p.epoch = seen.epoch
  where p.owner is null
    or not exists (
      select from member m
      where m.id = p.owner
        and {is_present}
    )
  order by p.id
  -- Nobody waits for whoever takes one at the same time.
  for update of p skip locked
)
update partition p
set
  owner = $1,
  owner_name = $2,
  epoch = p.epoch + 1,
  acquired_at = clock_timestamp(),
  -- For programs of before migration 6 alone.
  expires_at = clock_timestamp() + $3 * interval '1 ms',
  graceful = false
from free
where p.id = free.id
returning p.id, p.epoch, free.graceful
