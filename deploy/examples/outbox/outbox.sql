-- A transactional outbox: an event is written in the transaction that makes it true, and `relay.py` publishes it.
-- Either both happen or neither. For PostgreSQL 13 or later:
--
--   begin;
--   update account set balance = balance - 10 where name = 'ada';
--   select outbox_add('account-ada', 'https://example.com/hooks', '{"account": "ada", "amount": -10}');
--   commit;

-- The last number of each entity. Its row is never deleted: the worker remembers where an entity's numbers are.
create table outbox_entity (
  entity text primary key check (octet_length(entity) between 1 and 255),
  last_sequence bigint not null
);

-- What is not published yet. Ids are given out before the commit, so a lower id may appear after a higher one: the
-- relay reads from the lowest each time, and remembers none. Within an entity the ids ascend with the commits.
create table outbox (
  id bigint generated always as identity primary key,
  entity text not null,
  sequence bigint not null,
  key text not null check (key ~ '^[!-~]{1,200}$'),
  destination text not null check (destination ~ '^https?://'),
  content_type text not null,
  traceparent text,
  body bytea not null check (octet_length(body) <= 1048576)
);
-- It is emptied as fast as it is filled: dead rows are to be cleared away often.
alter table outbox set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

-- Adds an event, and returns its idempotency key.
--
-- The number is taken from the entity's row, which stays locked until the commit: transactions that add events of one
-- entity go one after the other, their numbers have the order of their commits, and a rollback leaves no gap. So add
-- events last in a transaction, and those of several entities in the order of their names, or they may deadlock.
create function outbox_add(
  entity text, destination text, body text, traceparent text default null,
  key text default gen_random_uuid()::text, content_type text default 'application/json'
) returns text language sql as $$
  with counted as (
    insert into outbox_entity as counter (entity, last_sequence) values ($1, 1)
    on conflict (entity) do update set last_sequence = counter.last_sequence + 1
    returning last_sequence
  )
  insert into outbox (entity, sequence, key, destination, content_type, traceparent, body)
  select $1, last_sequence, $5, $2, $6, $4, convert_to($3, 'UTF8') from counted
  returning key
$$;
