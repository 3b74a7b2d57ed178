-- Records gates as they are now, of which $7 are the versions that they had.
update gate g
set state = n.state,
  version = nextval('gate_version'),
  changed_at = clock_timestamp(),
  probes = n.probes,
  since = to_timestamp(n.since_ms / 1000.0),
  next_at = to_timestamp(n.next_ms / 1000.0),
  reason = n.reason,
  prober = case when n.state = 'probing' then $8::uuid end
from unnest($1::text[], $2::text[], $3::int4[], $4::int8[], $5::int8[], $6::text[], $7::int8[])
  as n (host, state, probes, since_ms, next_ms, reason, version)
where g.host = n.host
  and g.version = n.version
returning g.host
