-- Leaves a note for each of the events $1 to the owners of the partitions $2, where the lines of the entities $3 are.
insert into stray (event_id, partition, entity)
select * from unnest($1::int8[], $2::int4[], $3::text[])
on conflict do nothing
