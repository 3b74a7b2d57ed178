-- Each change of a gate or a pause takes a new number: whoever has seen the sum of them has seen them all.
create sequence gate_version;

-- The gates of hosts that are not open, or have opened lately. All times are the database's.
create table gate (
    -- `host:port`, or the name of a destination.
    host text collate "C" primary key,
    state text not null check (state in ('shut', 'probing', 'open')),
    version bigint not null,
    -- Probes that have failed, one after the other.
    probes integer not null,
    -- When it was changed last: if that is to come, the clock was set back, and `next_at` means nothing.
    changed_at timestamptz not null default clock_timestamp(),
    -- Since when it is shut.
    since timestamptz not null,
    -- When it may be probed; when a probe is void; when it is forgotten.
    next_at timestamptz not null,
    -- What was wrong last.
    reason text not null,
    -- The worker that probes it.
    prober uuid
) with (fillfactor = 50);

-- How many requests at a time hosts bear, over all workers, as those that find out have found out last.
create table host_limit (
    host text collate "C" primary key,
    most integer not null,
    version bigint not null,
    found_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50);

-- What operators have paused: its events wait, in order, and spend no attempts.
create table pause (
    scope text not null check (scope in ('everything', 'host', 'entity')),
    -- Of the host or the entity; empty for everything.
    name text collate "C" not null,
    version bigint not null,
    paused_at timestamptz not null default clock_timestamp(),
    -- Until an operator resumes it, if there is no time.
    until timestamptz,
    why text not null,
    -- Who.
    by text not null,
    primary key (scope, name)
);
