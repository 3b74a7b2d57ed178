-- The settings that are fixed.
select partitions, exchange, topology, least_schema
from cluster
