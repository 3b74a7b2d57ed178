-- Pauses the hosts $1, which say that they are gone; what an operator has said stays.
insert into pause (scope, name, version, why, by)
select 'host', host, nextval('gate_version'), $2, $3
from unnest($1::text[]) as n (host)
where (select count(*) from pause) < $4
on conflict (scope, name) do nothing
