-- The entities $1 begin to use numbers, with $2.
insert into entity_sequence (entity, next_sequence)
select * from unnest($1::text[], $2::int8[])
on conflict do nothing
