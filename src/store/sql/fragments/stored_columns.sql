-- Of an open event o and its event e: what a worker needs to know of it, but for the body.
o.event_id,
o.attempts,
o.unknown,
o.partition,
e.idempotency_key,
o.entity,
e.sequence,
e.destination,
e.properties,
e.trace,
(extract(epoch from e.recorded_at) * 1000)::int8 as recorded_ms
