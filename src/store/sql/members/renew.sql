-- Renews the lease of the member $1, for $4 milliseconds; it joins as $2 with its cap $3, if it is not a member (any
-- more).
with me as (
  insert into member as m (id, name, host_cap, lease_ms, expires_at)
  values ($1, $2, $3, $4, clock_timestamp() + $4::int8 * interval '1 ms')
  on conflict (id) do update set
    lease_ms = excluded.lease_ms,
    -- Others see by this that there was a renewal: it changes with each, whatever the database's clock does.
    expires_at = excluded.expires_at
      + case when m.expires_at = excluded.expires_at then interval '1 microsecond' else interval '0' end,
    revived = m.gone is not distinct from m.expires_at,
    host_share = case when m.gone is not distinct from m.expires_at then 0 else m.host_share end
  returning host_share, revived
),
-- A member that was found to be gone gets no partition back: others may be taking them.
dropped as (
  update partition
  set owner = null, owner_name = null, expires_at = null, graceful = false
  where owner = $1
    and (select revived from me)
)
-- Partitions are not locked, or every transaction of the writer could hold up the renewal.
select
  host_share,
  revived,
  array(select id from partition where owner = $1 order by id) as partitions,
  array(select epoch from partition where owner = $1 order by id) as epochs
from me
