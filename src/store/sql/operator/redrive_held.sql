-- The event $1, which holds its line, goes on where it stands; its line's owner finds a note.
with again as (
  update open_event
  set state = 'PENDING', attempts = 0, unknown = 0, changed_at = clock_timestamp()
  where event_id = $1
    and state = 'FAILED'
  returning event_id, partition, entity
),
noted as (
  insert into stray (event_id, partition, entity)
  select event_id, partition, entity from again
  -- Nobody may have taken the note of before.
  on conflict do nothing
)
select event_id from again
