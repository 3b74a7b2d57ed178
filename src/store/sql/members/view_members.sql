-- Members that are not gone, by seniority. No clock has a say in it.
select
  id,
  host_cap,
  host_share,
  leaving,
  {renewal} as renewal,
  lease_ms
from member m
where {is_present}
order by joined_at, id
