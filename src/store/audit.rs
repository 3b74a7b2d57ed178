//! The net under the rope: open events that nobody has in hand.
//!
//! A database that forgets commits (a standby that took over without the last of them) knows of attempts that were answered
//! long ago; and what nobody thought of may leave an event that nobody comes back to. A look at a few rows at a time names
//! suspects; whether anybody has them in hand is known only in the order of the commits, so the writer looks once more.

use sqlx::{FromRow, PgConnection};

use super::line::StoredEvent;
use super::position::UNNUMBERED;
use super::sql::audit as sql;
use crate::domain::event::{Entity, EventId, Partition};
use crate::engine::command::{Ready, Suspect, Suspicion};

/// Open events that one look goes through.
const LOOK: i64 = 1_000;

#[derive(FromRow)]
struct Row {
    event_id: i64,
    partition: i32,
    entity: String,
    attempts: i16,
    state: String,
    orphan: bool,
}

/// A look through some of the open events.
#[derive(Debug)]
pub struct Looked {
    /// Those that somebody should have in hand, among those of the partitions.
    pub suspects: Vec<Suspect>,
    /// The first and the last open event that was looked at; none if there was none.
    pub span: Option<(EventId, EventId)>,
    /// There may be more behind the last.
    pub more: bool,
}

/// Looks through the open events behind `after`.
///
/// # Errors
/// sqlx's.
pub async fn look(connection: &mut PgConnection, partitions: &[i32], after: EventId) -> Result<Looked, sqlx::Error> {
    let span: (Option<i64>, Option<i64>, i64) =
        sqlx::query_as(sql::PAGE).bind(after.0).bind(LOOK).fetch_one(&mut *connection).await?;
    let (Some(first), Some(last), count) = span else {
        return Ok(Looked { suspects: Vec::new(), span: None, more: false });
    };
    let rows: Vec<Row> =
        sqlx::query_as(sql::SUSPECTS).bind(partitions).bind(first).bind(last).fetch_all(connection).await?;
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
    Ok(Looked {
        suspects: rows.into_iter().map(suspect).collect(),
        span: Some((EventId(first), EventId(last))),
        more: count == LOOK,
    })
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
    let ready: Vec<(i64, i32, String, String)> =
        sqlx::query_as(sql::CONFIRM_READY).bind(ids(Suspicion::Ready)).fetch_all(&mut *connection).await?;
    let orphans: Vec<(i64, String)> =
        sqlx::query_as(sql::REMOVE_ORPHANS).bind(ids(Suspicion::Orphan)).bind(UNNUMBERED).fetch_all(connection).await?;
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
