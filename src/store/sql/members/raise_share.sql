-- The share of the member $1 grows towards $2, by no more than what all others together leave of the cap $3. Whoever
-- was found to be gone has none; all others count, whatever the database's clock says.
update member m
set host_share = greatest(
  m.host_share,
  least($2, $3 - (select coalesce(sum(o.host_share), 0) from member o where o.id <> $1)::integer)
)
where m.id = $1
  and {is_present}
returning host_share
