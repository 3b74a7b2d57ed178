-- Records gates that were not there, up to $7 of all. One that somebody else has recorded meanwhile stays.
insert into gate (host, state, version, probes, since, next_at, reason)
select
  n.host,
  n.state,
  nextval('gate_version'),
  n.probes,
  to_timestamp(n.since_ms / 1000.0),
  to_timestamp(n.next_ms / 1000.0),
  n.reason
from unnest($1::text[], $2::text[], $3::int4[], $4::int8[], $5::int8[], $6::text[])
  as n (host, state, probes, since_ms, next_ms, reason)
where (select count(*) from gate) < $7
on conflict (host) do nothing
returning host
