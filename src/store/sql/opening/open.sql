-- Opens a transaction of member $2, number $3: the fence on the partitions $1, locks on the lines of the entities $4,
-- the attempts $6 of the events $5 that end in the final states $7, and the attempts that begin ($9: their events,
-- $10: attempts begun so far, $11: none, or the event that has to become final with it). $8 is the position of what
-- has no number.
with numbered as (
  -- Tells a worker that lost the connection whether the transaction was committed.
  insert into writer_commit (member, number) values ($2, $3)
  on conflict (member) do update set number = excluded.number, at = clock_timestamp()
),
leases as (
  -- They are held until the end of the transaction.
  select id, owner, epoch from partition where id = any($1) order by id for share
),
locks as (
  -- Another worker may be about to open a line for one of these entities, or to empty the one that it has elsewhere. In
  -- one order, so that no two workers wait for each other; what a line holds is looked at by a later statement, which
  -- sees what was committed before.
  select pg_advisory_xact_lock(line)
  from (
    select distinct hashtextextended(entity, 0) as line
    from unnest($4::text[]) as arrived (entity)
    order by line
    offset 0
  ) lines
),
ends as (
  select ($5::int8[])[i] as event_id, ($6::int2[])[i] as attempts, ($7::text[])[i] as state
  from generate_subscripts($5::int8[], 1) i
),
gone as (
  delete from open_event o using ends e
  where o.event_id = any($5)
    and o.event_id = e.event_id
    and o.state = 'IN_FLIGHT'
    and o.attempts = e.attempts
  returning e.event_id, e.state, e.attempts, o.entity, o.position
),
advanced as (
  update entity_sequence s
  set next_sequence = g.position + 1
  from gone g
  where s.entity = any(array(select entity from gone))
    and g.position <> $8
    and s.entity = g.entity
    and s.next_sequence = g.position
),
finished as (
  insert into final_event (event_id, state, attempts)
  select event_id, state, attempts from gone
  returning event_id
),
starts as (
  select ($9::int8[])[i] as event_id, ($10::int2[])[i] as attempts, ($11::int8[])[i] as after
  from generate_subscripts($9::int8[], 1) i
),
started as (
  update open_event o
  set
    state = 'IN_FLIGHT',
    attempts = o.attempts + 1,
    changed_at = clock_timestamp(),
    due_at = null,
    parked = false
  from starts s
  where o.event_id = any($9)
    and o.event_id = s.event_id
    and o.attempts = s.attempts
    and o.state in ('PENDING', 'RETRY_WAIT')
    and (s.after is null or s.after in (select event_id from gone))
  returning o.event_id
)
select
  array(select id from leases) as partitions,
  array(select owner from leases) as owners,
  array(select epoch from leases) as epochs,
  array(select event_id from finished) as finished,
  array(select event_id from started) as started,
  (select count(*) from locks)
