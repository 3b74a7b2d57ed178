-- The first worker's settings stay: $1 partitions, the exchange $2, the version $3 of exchanges and queues.
insert into cluster (partitions, exchange, topology)
values ($1, $2, $3)
on conflict do nothing
