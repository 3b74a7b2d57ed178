-- What never changes (event) is apart from what changes (open_event): an update copies a narrow row, not a payload,
-- and the open work stays small whatever the size of history.

-- The settings that are fixed when the topology is first declared.
create table cluster (
    singleton boolean primary key default true check (singleton),
    partitions integer not null check (partitions > 0),
    exchange text not null
);

-- Who may work on which of the broker's buckets. All times are the database's.
create table partition (
    id integer primary key,
    owner uuid,
    owner_name text,
    epoch bigint not null default 0,
    acquired_at timestamptz,
    expires_at timestamptz
) with (fillfactor = 50);

-- The last commit of each worker's writer: how it finds out, after a lost connection, whether a commit took place.
-- The transaction's id would not do: after a crash, an id that was never written may be given out again.
create table writer_commit (
    member uuid primary key,
    number bigint not null,
    at timestamptz not null default clock_timestamp()
) with (fillfactor = 10);

-- Every event that was taken in, until its retention ends. Never updated.
create table event (
    id bigint generated always as identity primary key,
    idempotency_key text collate "C" not null unique,
    -- SHA-256 of entity, destination, sequence and body: the same key with another digest is a conflict.
    digest bytea not null,
    partition integer not null,
    entity text collate "C" not null,
    sequence bigint,
    destination text not null,
    -- The AMQP 0-9-1 properties of the message, headers among them, in wire format.
    properties bytea not null,
    body bytea not null,
    recorded_at timestamptz not null default clock_timestamp()
);

-- Every event that is not final. The line of an entity goes over all partitions: a broker that restarts may deal its
-- entities to other queues than before. In the line come those without a number first
-- (position -1), then the others by number. With --on-exhausted hold, a FAILED event stays here until an operator decides.
create table open_event (
    event_id bigint primary key,
    partition integer not null,
    entity text collate "C" not null,
    position bigint not null,
    host text not null,
    body_bytes integer not null,
    state text not null default 'PENDING' check (state in ('PENDING', 'IN_FLIGHT', 'RETRY_WAIT', 'FAILED')),
    attempts smallint not null default 0,
    changed_at timestamptz not null default clock_timestamp(),
    due_at timestamptz,
    parked boolean not null default false
) with (
    -- State and attempts are in no index, so that an ordinary event is updated in place (HOT).
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);
create index open_event_line on open_event (entity, position, event_id);
create index open_event_partition on open_event (partition);
create index open_event_due on open_event (partition, due_at) where due_at is not null and not parked;
create index open_event_parked on open_event (partition, host, event_id) where parked;

-- Events that are final, until their retention ends. Never updated, but for a redrive.
create table final_event (
    event_id bigint primary key,
    state text not null check (state in ('DELIVERED', 'FAILED')),
    attempts smallint not null,
    finished_at timestamptz not null default clock_timestamp()
);

-- What went wrong, for the history of a dead letter. An attempt that succeeds has no row.
create table failed_attempt (
    event_id bigint not null,
    attempt smallint not null,
    ended_at timestamptz not null default clock_timestamp(),
    duration_ms integer,
    -- The receiver's answer: its status and the beginning of its body.
    status smallint,
    answer text,
    -- Why there was no answer.
    error text,
    primary key (event_id, attempt)
);

-- The outbox of the dead-letter exchange: FAILED events, marked when the broker has confirmed them.
create table dead_letter (
    event_id bigint primary key,
    partition integer not null,
    reason text not null,
    failed_at timestamptz not null default clock_timestamp(),
    published_at timestamptz
);
create index dead_letter_unpublished on dead_letter (partition, event_id) where published_at is null;

-- The number that an entity waits for. Kept for good: without it, an old number would count as a gap.
create table entity_sequence (
    entity text collate "C" primary key,
    next_sequence bigint not null
) with (fillfactor = 70);

create view event_state as
select
    e.id as event_id,
    e.idempotency_key,
    e.partition,
    e.entity,
    e.sequence,
    e.destination,
    coalesce(o.state, f.state) as state,
    coalesce(o.attempts, f.attempts) as attempts,
    e.recorded_at,
    o.due_at,
    f.finished_at
from event e
left join open_event o on o.event_id = e.id
left join final_event f on f.event_id = e.id;
