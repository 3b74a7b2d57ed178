-- The workers that share the partitions. All times are the database's.
create table member (
    id uuid primary key,
    name text not null,
    joined_at timestamptz not null default clock_timestamp(),
    -- Renewed together with the leases on its partitions.
    expires_at timestamptz not null,
    -- Its --host-connections, and its part of the least of them: what it may have open to one host.
    host_cap integer not null,
    host_share integer not null default 0,
    -- It is stopping: it gives up its partitions, and takes no more.
    leaving boolean not null default false
) with (fillfactor = 50);

-- Events of an entity that came in by another partition's queue than the one that the entity's line is in: the line's
-- owner looks here.
create table stray (
    event_id bigint primary key,
    partition integer not null,
    entity text collate "C" not null
);
create index stray_partition on stray (partition);

-- An open event may have moved with its line.
create or replace view event_state as
select
    e.id as event_id,
    e.idempotency_key,
    coalesce(o.partition, e.partition) as partition,
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
