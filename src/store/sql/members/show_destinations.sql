-- The member $1 has the version $2 of the destinations' file, with the limits $5 of the entries $4, and has refused a
-- later one for the reason $3.
update member
set destinations = $2, destinations_refused = $3, limited = $4, limits = $5
where id = $1
  and (destinations, destinations_refused, limited, limits)
    is distinct from ($2::text, $3::text, $4::text[], $5::int4[])
