-- A member's last renewal, as others compare it: a value that changes with each. It changes with the server, too:
-- one that takes over may have forgotten renewals, and every member gets the length of its lease to come back.
((extract(epoch from m.expires_at) * 1000000)::int8 # (extract(epoch from pg_postmaster_start_time()) * 1000000)::int8)
