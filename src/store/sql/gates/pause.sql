-- Pauses $2 of the scope $1, for $5 milliseconds if there is a time.
insert into pause (scope, name, version, why, by, until)
values (
  $1,
  $2,
  nextval('gate_version'),
  $3,
  $4,
  case when $5::int8 is not null then clock_timestamp() + $5 * interval '1 millisecond' end
)
on conflict (scope, name) do update
set version = excluded.version,
  paused_at = clock_timestamp(),
  why = excluded.why,
  by = excluded.by,
  until = excluded.until
