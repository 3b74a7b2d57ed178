-- Opens the event $1, which was final, at the position $2 for the host $3; its line's owner finds a note. The end of
-- its retention takes the same row of final_event away: nothing is opened if it was first.
with again as (
  delete from final_event
  where event_id = $1
    and state = 'FAILED'
  returning event_id
),
opened as (
  insert into open_event (event_id, partition, entity, position, host, body_bytes)
  select
    e.id,
    coalesce((select o.partition from open_event o where o.entity = e.entity limit 1), e.partition),
    e.entity,
    $2,
    $3,
    octet_length(e.body)
  from again a
  join event e on e.id = a.event_id
  returning event_id, partition, entity
),
noted as (
  insert into stray (event_id, partition, entity)
  select event_id, partition, entity from opened
  -- Nobody may have taken the note of before.
  on conflict do nothing
)
select event_id from opened
