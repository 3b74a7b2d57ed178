-- Keeps failed attempts for the history.
insert into failed_attempt (event_id, attempt, duration_ms, status, answer, error)
select * from unnest($1::int8[], $2::int2[], $3::int4[], $4::int2[], $5::text[], $6::text[])
on conflict do nothing
