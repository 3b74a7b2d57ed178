-- The commits' numbers of workers that are gone, however long ago the database's clock says they last wrote.
delete from writer_commit w
where at < clock_timestamp() - interval '1 day'
  and not exists (select from member where id = w.member)
