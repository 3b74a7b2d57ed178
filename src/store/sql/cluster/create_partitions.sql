-- There are $1 partitions.
insert into partition (id)
select generate_series(0, $1 - 1)
on conflict do nothing
