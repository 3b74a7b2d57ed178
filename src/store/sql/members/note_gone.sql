-- The members $1 are gone, if their last renewals are still $2.
update member m
set gone = expires_at, host_share = 0
from unnest($1::uuid[], $2::int8[]) as seen (id, renewal)
where m.id = seen.id
  and {renewal} = seen.renewal
