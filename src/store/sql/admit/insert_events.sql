-- Records arrivals in their order; the identity column numbers them in it.
--
-- Bodies pass through nothing on their way into their table: `arrived` is read once, in the order of its numbers as it
-- is, and what goes into the narrow table is taken apart once more. A sort or a join would copy them, and to disk if
-- they are large.
with recorded as (
  insert into event (
    idempotency_key, digest, partition, entity, sequence, destination, properties, body, trace
  )
  select idempotency_key, digest, partition, entity, nullif(position, -1), destination, properties, body, trace
  from unnest(
    $1::text[], $2::bytea[], $3::int4[], $4::text[], $5::int8[], $6::text[], $7::bytea[], $8::bytea[], $9::text[]
  ) with ordinality as arrived (
    idempotency_key, digest, partition, entity, position, destination, properties, body, trace, number
  )
  order by number
  -- Fewer rows than arrivals: one of the keys was recorded before.
  on conflict (idempotency_key) do nothing
  returning id, idempotency_key
),
opened as (
  insert into open_event (event_id, partition, entity, position, host, body_bytes, parked, state, attempts)
  select
    id, partition, entity, position, host, body_bytes, parked,
    case when begun then 'IN_FLIGHT' else 'PENDING' end,
    begun::int
  from recorded
  join unnest(
    $1::text[], $3::int4[], $4::text[], $5::int8[], $10::text[], $11::int4[], $12::bool[], $13::bool[]
  ) as arrived (idempotency_key, partition, entity, position, host, body_bytes, parked, begun)
  using (idempotency_key)
)
select id from recorded
