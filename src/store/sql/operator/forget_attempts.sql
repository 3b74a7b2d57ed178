-- The event $1 begins anew: what went wrong before is no part of its history.
delete from failed_attempt
where event_id = $1
