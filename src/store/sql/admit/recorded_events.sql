-- What is recorded under the keys $1.
select
  e.id,
  e.idempotency_key,
  e.digest,
  exists (select from final_event where event_id = e.id and state = 'FAILED' offset 0)
    or exists (select from open_event where event_id = e.id and state = 'FAILED' offset 0)
from event e
where e.idempotency_key = any($1)
