-- The order of a line, in an index that no look-up by key can use: `+ 0` makes an expression of the key. While a table is
-- almost empty, any index that holds a column seems as good as any other, and a plan that was made then would go through
-- the whole of this one for each key, and go on to do so when the table has grown.
create index open_event_order on open_event (entity, position, (event_id + 0));
drop index open_event_line;
