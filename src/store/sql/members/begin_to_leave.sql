-- The member $1 is stopping.
update member
set leaving = true
where id = $1
