-- Behind the last event of the line that is known to be final: of those before it, the index keeps its entries until
-- they are vacuumed, and as long as anybody holds an old snapshot open, they are not.
(position, event_id + 0) > (a.floor_position, a.floor_id)
