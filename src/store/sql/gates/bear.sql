-- Records that the hosts $1 bear $2 requests at a time, up to $3 hosts of all.
insert into host_limit (host, most, version)
select n.host, n.most, nextval('gate_version')
from unnest($1::text[], $2::int4[]) as n (host, most)
where (select count(*) from host_limit) < $3
on conflict (host) do update
set most = excluded.most,
  version = excluded.version,
  found_at = clock_timestamp()
