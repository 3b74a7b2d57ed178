//! The net under the rope: open events that nobody has in hand.
//!
//! A database that forgets commits (a standby that took over without the last of them) knows of attempts that were answered
//! long ago; and what nobody thought of may leave an event that nobody comes back to. A look at a few rows at a time names
//! suspects; whether anybody has them in hand is known only in the order of the commits, so the writer looks once more.

use sqlx::{FromRow, PgConnection};

use super::admit::UNNUMBERED;
use super::line::StoredEvent;
use crate::domain::event::{Entity, EventId, Host, Partition};

/// Open events that one look goes through.
const LOOK: i64 = 1_000;

/// Why an event is looked at more closely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// An attempt is recorded.
    InFlight,
    /// It is the head of its line and waits for nothing, yet is not parked.
    Ready,
    /// The event itself is gone.
    Orphan,
}

/// An open event that somebody should have in hand.
#[derive(Clone, Debug)]
pub struct Suspect {
    /// The event.
    pub id: EventId,
    /// Its partition.
    pub partition: Partition,
    /// Its entity.
    pub entity: Entity,
    /// Attempts begun so far.
    pub attempts: u16,
    /// Why it is looked at.
    pub suspicion: Suspicion,
}

#[derive(FromRow)]
struct Row {
    event_id: i64,
    partition: i32,
    entity: String,
    attempts: i16,
    state: String,
    orphan: bool,
    last: i64,
}

/// Looks through the open events behind `after`. Gives the suspects among those of the partitions, and where the next look goes
/// on; none at the end.
///
/// # Errors
/// sqlx's.
pub async fn look(
    connection: &mut PgConnection,
    partitions: &[i32],
    after: EventId,
) -> Result<(Vec<Suspect>, Option<EventId>), sqlx::Error> {
    // Of each line with something that waits for nothing it knows of, the head is looked at.
    let rows: Vec<Row> = sqlx::query_as(
        "with page as materialized (select event_id, partition, entity, state, attempts, parked from open_event \
         where event_id > $2 order by event_id limit $3), \
         mine as (select * from page where partition = any($1)), \
         heads as (select h.* from (select distinct entity from mine where state = 'PENDING' and not parked) line \
         cross join lateral (select event_id, partition, entity, position, state, attempts, parked from open_event o \
         where o.entity = line.entity order by position, event_id + 0 limit 1) h \
         where h.state = 'PENDING' and not h.parked and h.partition = any($1) and (h.position < 0 or exists \
         (select from entity_sequence s where s.entity = h.entity and s.next_sequence = h.position))), \
         orphans as (select m.* from mine m left join lateral (select id from event where id = m.event_id offset 0) e \
         on true where e.id is null), \
         suspects as (select event_id, partition, entity, attempts, state, false as orphan from mine \
         where state = 'IN_FLIGHT' union all select event_id, partition, entity, attempts, state, false from heads \
         union all select event_id, partition, entity, attempts, state, true from orphans) \
         select coalesce(s.event_id, 0) as event_id, coalesce(s.partition, -1) as partition, \
         coalesce(s.entity, '') as entity, coalesce(s.attempts, 0::int2) as attempts, coalesce(s.state, '') as state, \
         coalesce(s.orphan, false) as orphan, p.last \
         from (select case when count(*) = $3 then max(event_id) else 0 end as last from page) p \
         left join suspects s on true",
    )
    .bind(partitions)
    .bind(after.0)
    .bind(LOOK)
    .fetch_all(connection)
    .await?;
    let last = rows.first().map(|row| EventId(row.last)).filter(|last| last.0 > 0);
    let suspect = |row: Row| Suspect {
        id: EventId(row.event_id),
        partition: Partition(row.partition),
        entity: row.entity.into(),
        attempts: u16::try_from(row.attempts).unwrap_or_default(),
        suspicion: match row.state.as_str() {
            _ if row.orphan => Suspicion::Orphan,
            "IN_FLIGHT" => Suspicion::InFlight,
            _ => Suspicion::Ready,
        },
    };
    Ok((rows.into_iter().filter(|row| row.event_id > 0).map(suspect).collect(), last))
}

/// A head that waits for nothing.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The event.
    pub id: EventId,
    /// Its partition.
    pub partition: Partition,
    /// Its entity.
    pub entity: Entity,
    /// Its host.
    pub host: Host,
}

/// What became of suspects.
#[derive(Debug, Default)]
pub struct Confirmed {
    /// Attempts that are still recorded as in flight; without bodies.
    pub in_flight: Vec<StoredEvent>,
    /// Heads that still wait for nothing, and are not parked.
    pub ready: Vec<Ready>,
    /// Rows without an event, which are gone now.
    pub orphans: Vec<(EventId, Entity)>,
}

/// Looks once more, in the order of the commits. Rows without an event are removed: there is nothing that could be sent, and
/// the rest of the line goes on.
///
/// # Errors
/// sqlx's.
pub async fn confirm(connection: &mut PgConnection, suspects: &[Suspect]) -> Result<Confirmed, sqlx::Error> {
    let ids = |suspicion| {
        let of_kind = suspects.iter().filter(move |suspect| suspect.suspicion == suspicion);
        of_kind.map(|suspect| suspect.id.0).collect::<Vec<_>>()
    };
    let in_flight = super::line::in_flight(connection, &ids(Suspicion::InFlight)).await?;
    let ready: Vec<(i64, i32, String, String)> = sqlx::query_as(
        "select event_id, partition, entity, host from open_event o where event_id = any($1) and state = 'PENDING' \
         and not parked and not exists (select from open_event p where p.entity = o.entity \
         and (p.position, p.event_id + 0) < (o.position, o.event_id) offset 0)",
    )
    .bind(ids(Suspicion::Ready))
    .fetch_all(&mut *connection)
    .await?;
    let orphans: Vec<(i64, String)> = sqlx::query_as(
        "with gone as (delete from open_event o where event_id = any($1) \
         and not exists (select from event where id = o.event_id offset 0) returning event_id, entity, position), \
         advanced as (update entity_sequence s set next_sequence = g.position + 1 from gone g \
         where s.entity = any(array(select entity from gone)) and g.position <> $2 and s.entity = g.entity \
         and s.next_sequence = g.position) select event_id, entity from gone",
    )
    .bind(ids(Suspicion::Orphan))
    .bind(UNNUMBERED)
    .fetch_all(connection)
    .await?;
    let ready = ready.into_iter().map(|(id, partition, entity, host)| Ready {
        id: EventId(id),
        partition: Partition(partition),
        entity: entity.into(),
        host: host.into(),
    });
    Ok(Confirmed {
        in_flight,
        ready: ready.collect(),
        orphans: orphans.into_iter().map(|(id, entity)| (EventId(id), entity.into())).collect(),
    })
}
