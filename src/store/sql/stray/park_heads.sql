-- Parks the heads of the lines $1 in the partitions $2 that wait for nothing.
update open_event o
set parked = true
where o.entity = any($1)
  and o.partition = any($2)
  and {is_ready}
returning o.host
