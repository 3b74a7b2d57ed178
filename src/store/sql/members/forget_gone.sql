-- Members that were found to be gone are forgotten $1 milliseconds after their lease.
delete from member
where gone = expires_at
  and expires_at < clock_timestamp() - $1 * interval '1 ms'
