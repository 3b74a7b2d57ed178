-- The first commit of the member $1 inserts its row: only another insert waits for that.
insert into writer_commit (member, number) values ($1, 0)
on conflict (member) do nothing
