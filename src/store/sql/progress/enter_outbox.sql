-- Puts the events $1 of the partitions $2 into the outbox, for the reasons $3. One that was redriven may fail once
-- more.
insert into dead_letter (event_id, partition, reason)
select * from unnest($1::int8[], $2::int4[], $3::text[])
on conflict (event_id) do update set
  reason = excluded.reason,
  failed_at = excluded.failed_at,
  published_at = null
