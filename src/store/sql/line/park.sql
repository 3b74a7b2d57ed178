-- Marks the events $1 as waiting for their host in the store.
update open_event
set parked = true
where event_id = any($1)
  and state in ('PENDING', 'RETRY_WAIT')
