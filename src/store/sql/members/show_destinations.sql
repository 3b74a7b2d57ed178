-- The member $1 has the version $2 of the destinations' file, and has refused a later one for the reason $3.
update member
set destinations = $2, destinations_refused = $3
where id = $1
  and (destinations is distinct from $2 or destinations_refused is distinct from $3)
