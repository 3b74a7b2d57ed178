-- Deletes up to $3 events that are final for longer than $1 seconds, with all that belongs to them. A dead letter that
-- the broker has not confirmed keeps its event.
with expired as (
  select f.event_id
  from (
    -- The oldest $2, so that a look costs the same whatever the size of history.
    select event_id, finished_at
    from final_event
    order by event_id
    limit $2
  ) f
  left join dead_letter d on d.event_id = f.event_id
  where f.finished_at < clock_timestamp() - $1 * interval '1 s'
    and (d.event_id is null or d.published_at is not null)
  order by f.event_id
  limit $3
),
-- What is deleted follows from the rows that this statement itself has taken away: one that a redrive took while this
-- waited for a lock is open again, and keeps all that belongs to it.
finals as (
  delete from final_event
  where event_id in (select event_id from expired)
  returning event_id
),
attempts as (
  delete from failed_attempt
  where event_id in (select event_id from finals)
),
letters as (
  delete from dead_letter
  where event_id in (select event_id from finals)
),
events as (
  delete from event
  where id in (select event_id from finals)
  returning 1
)
select count(*) from events
