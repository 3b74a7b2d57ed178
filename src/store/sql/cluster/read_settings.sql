-- The settings that are fixed.
select partitions, exchange, topology, least_schema, entity_from, sequence_from
from cluster
