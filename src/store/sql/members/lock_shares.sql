-- One share is raised at a time: the sum of all has to be the one that the last of them left.
select
from cluster
for update
