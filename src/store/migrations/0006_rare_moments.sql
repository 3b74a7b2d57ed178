-- How long a member's lease lasts, by its own settings. None if an older program has renewed it last.
alter table member add column lease_ms bigint;
-- The value of expires_at with which the member was found to be gone: it is gone as long as that is still its last renewal.
-- Members find out by their own clocks, for a database's clock may be set.
alter table member add column gone timestamptz;
-- The last renewal came after the member was found to be gone, or was its first: nothing is its own any more.
alter table member add column revived boolean not null default true;
-- The last owner gave the partition back with nothing of it left at the broker.
alter table partition add column graceful boolean not null default false;
-- Of the attempts, those whose outcome is not known: they do not count as failures of the receiver.
alter table open_event add column unknown smallint not null default 0;
