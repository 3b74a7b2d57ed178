-- The first worker's settings stay: $1 partitions, the exchange $2, the version $3 of exchanges and queues, the place
-- $4 of the entity and $6 of its number, and the least migration $5 that a program has to know for all that.
insert into cluster (partitions, exchange, topology, entity_from, least_schema, sequence_from)
values ($1, $2, $3, $4, $5, $6)
on conflict do nothing
