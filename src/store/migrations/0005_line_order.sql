-- The order of a line, and of what waits for a host, in indexes that no look-up by key can use, nor the key's index in
-- their place: `+ 0` makes an expression of the key. While a table is almost empty, any index that holds a column seems as
-- good as any other, and a plan that was made then would go through the whole of it for each key, and go on to do so when
-- the table has grown.
create index open_event_order on open_event (entity, position, (event_id + 0));
create index open_event_waiting on open_event (partition, host, (event_id + 0)) where parked;
drop index open_event_line;
drop index open_event_parked;
