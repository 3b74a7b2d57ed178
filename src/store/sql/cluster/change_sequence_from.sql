-- While no worker runs, the numbers may be found in another place from now on: $1. One that died counts until its
-- lease is over by the database's clock: no promise depends on it here.
update cluster
set sequence_from = $1
where not exists (
  select from member m
  where {is_present}
    and m.expires_at > clock_timestamp()
)
