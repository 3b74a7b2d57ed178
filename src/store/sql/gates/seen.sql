-- What changes with every change of a gate or a pause.
select
  (select count(*) from gate),
  (select coalesce(sum(version), 0)::int8 from gate),
  (select count(*) from pause where until is null or until > clock_timestamp()),
  (select coalesce(sum(version), 0)::int8 from pause where until is null or until > clock_timestamp()),
  (select coalesce(sum(version), 0)::int8 from host_limit)
