-- The member $1 is no more, and what is still its own is free.
with mine as (
  update partition
  set owner = null, owner_name = null, expires_at = null, graceful = false
  where owner = $1
)
delete from member
where id = $1
