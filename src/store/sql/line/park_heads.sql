-- Parks every head of the partition $1 that waits for nothing.
update open_event o
set parked = true
where o.partition = $1
  and {is_ready}
