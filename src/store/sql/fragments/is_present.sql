-- The member m is not gone: nobody has noted that its renewals stand still, or it has renewed since.
m.gone is distinct from m.expires_at
