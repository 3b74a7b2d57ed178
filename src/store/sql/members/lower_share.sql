-- The member $1 has no more than $2 of the cap on a host.
update member
set host_share = least(host_share, $2)
where id = $1
