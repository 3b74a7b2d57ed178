-- While no worker runs, the numbers may be found in another place from now on: $1.
update cluster
set sequence_from = $1
where not exists (
  select from member m
  where {is_present}
)
