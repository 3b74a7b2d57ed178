//! What every transaction begins with, in one statement: its number, the fence, the locks on lines that may be opened,
//! the events that become final and the attempts that begin.

use std::collections::{HashMap, HashSet};

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::batch::Batch;
use crate::domain::event::EventId;
use crate::domain::lease::is_current;
use crate::handoff::Settlement;
use crate::store::members::Member;
use crate::store::position::UNNUMBERED;
use crate::store::progress::{ids_and_attempts, small};

/// What the statement found.
pub(super) struct Opening {
    /// Events that are final now: one that another owner has settled is not.
    pub(super) finished: Vec<EventId>,
    /// Events whose next attempt begins.
    pub(super) started: Vec<EventId>,
}

#[derive(FromRow)]
struct Row {
    partitions: Vec<i32>,
    owners: Vec<Option<Uuid>>,
    epochs: Vec<i64>,
    finished: Vec<i64>,
    started: Vec<i64>,
}

/// Opens the transaction: its number tells a worker that lost the connection whether it was committed. None if any lease
/// of the batch has another owner or epoch: those are marked, and the transaction has to be rolled back.
///
/// - The leases are held until the end of the transaction.
/// - Entities of arrivals are locked until then: another worker may be about to open a line for one of them, or to empty
///   the one that it has elsewhere. In one order, so that no two workers wait for each other; what a line holds is looked
///   at by a later statement, which sees what was committed before.
/// - `open_event` is often empty, and plans are often made then: a join alone would read all of its index, and go on to do
///   so under load. So it says `event_id = any(...)`, which only the primary key is good for. And arrays are taken apart by
///   their subscripts, of which the planner expects a thousand (of `unnest`, ten): enough to join by hash instead of
///   comparing each with each.
pub(super) async fn open(
    connection: &mut PgConnection,
    member: &Member,
    number: i64,
    batch: &Batch,
) -> Result<Option<Opening>, sqlx::Error> {
    let partitions: HashSet<i32> = batch.held().map(|held| held.partition().0).collect();
    let finals: Vec<&Settlement> = batch.settlements().filter(|settlement| settlement.frees_the_line()).collect();
    let (final_ids, final_attempts) = ids_and_attempts(&finals);
    let row: Row = sqlx::query_as(
        "with numbered as (insert into writer_commit (member, number) values ($2, $3) \
         on conflict (member) do update set number = excluded.number, at = clock_timestamp()), \
         leases as (select id, owner, epoch from partition where id = any($1) order by id for share), \
         locks as (select pg_advisory_xact_lock(line) from (select distinct hashtextextended(entity, 0) as line \
         from unnest($4::text[]) as arrived (entity) order by line offset 0) lines), \
         ends as (select ($5::int8[])[i] as event_id, ($6::int2[])[i] as attempts, ($7::text[])[i] as state \
         from generate_subscripts($5, 1) i), \
         gone as (delete from open_event o using ends e where o.event_id = any($5) and o.event_id = e.event_id \
         and o.state = 'IN_FLIGHT' and o.attempts = e.attempts \
         returning e.event_id, e.state, e.attempts, o.entity, o.position), \
         advanced as (update entity_sequence s set next_sequence = g.position + 1 from gone g \
         where s.entity = any(array(select entity from gone)) and g.position <> $8 and s.entity = g.entity \
         and s.next_sequence = g.position), \
         finished as (insert into final_event (event_id, state, attempts) select event_id, state, attempts from gone \
         returning event_id), \
         starts as (select ($9::int8[])[i] as event_id, ($10::int2[])[i] as attempts, ($11::int8[])[i] as after \
         from generate_subscripts($9, 1) i), \
         started as (update open_event o set state = 'IN_FLIGHT', attempts = o.attempts + 1, \
         changed_at = clock_timestamp(), due_at = null, parked = false from starts s \
         where o.event_id = any($9) and o.event_id = s.event_id and o.attempts = s.attempts \
         and o.state in ('PENDING', 'RETRY_WAIT') and (s.after is null or s.after in (select event_id from gone)) \
         returning o.event_id) \
         select array(select id from leases) as partitions, array(select owner from leases) as owners, \
         array(select epoch from leases) as epochs, array(select event_id from finished) as finished, \
         array(select event_id from started) as started, (select count(*) from locks)",
    )
    .bind(partitions.into_iter().collect::<Vec<_>>())
    .bind(member.id)
    .bind(number)
    .bind(batch.arrived().map(|arrival| arrival.event.entity.as_str()).collect::<Vec<_>>())
    .bind(final_ids)
    .bind(final_attempts)
    .bind(finals.iter().map(|settlement| settlement.state().name()).collect::<Vec<_>>())
    .bind(UNNUMBERED)
    .bind(batch.starts.iter().map(|start| start.candidate.id.0).collect::<Vec<_>>())
    .bind(batch.starts.iter().map(|start| small(start.candidate.attempts)).collect::<Vec<_>>())
    .bind(batch.starts.iter().map(|start| start.after.map(|before| before.0)).collect::<Vec<_>>())
    .fetch_one(connection)
    .await?;
    let events = |ids: &[i64]| ids.iter().copied().map(EventId).collect();
    Ok(is_ours(&row, member, batch).then(|| Opening { finished: events(&row.finished), started: events(&row.started) }))
}

/// Marks leases that have another owner or epoch; false if there are any.
fn is_ours(row: &Row, member: &Member, batch: &Batch) -> bool {
    let standing = row.owners.iter().zip(row.epochs.iter().copied());
    let recorded: HashMap<i32, (&Option<Uuid>, i64)> = row.partitions.iter().copied().zip(standing).collect();
    let mut ours = true;
    for held in batch.held() {
        let (owner, epoch) = recorded.get(&held.partition().0).copied().unwrap_or((&None, 0));
        if !is_current((owner.as_ref(), epoch), (&member.id, held.epoch())) {
            held.lose();
            ours = false;
        }
    }
    ours
}
