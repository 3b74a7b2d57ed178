-- Tells whoever listens on the channel $1 to look.
select pg_notify($1, '')
