-- The event $1 begins anew: it is no dead letter any more.
delete from dead_letter
where event_id = $1
