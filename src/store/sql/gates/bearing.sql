-- What hosts bear, $1 of them at most.
select host, most, version
from host_limit
order by host
limit $1
