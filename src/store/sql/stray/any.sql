-- Whether there are notes for the owner of the partitions $1.
select exists (select from stray where partition = any($1))
