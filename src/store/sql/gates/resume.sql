-- Resumes $2 of the scope $1.
delete from pause
where scope = $1
  and name = $2
returning why, by
