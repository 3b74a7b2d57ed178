-- A renewal as a number that changes with each: when it would end, in microseconds since 1970.
(extract(epoch from expires_at) * 1000000)::int8
