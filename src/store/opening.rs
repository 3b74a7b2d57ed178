//! What every transaction of the writer begins with, in one statement: its number, the fence, the locks on lines that may be
//! opened, the events that become final and the attempts that begin.

use std::collections::{HashMap, HashSet};

use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::members::Member;
use super::position::UNNUMBERED;
use super::progress::{ids_and_attempts, small};
use super::sql::opening as sql;
use crate::domain::event::{Entity, EventId, Partition};
use crate::handoff::Settlement;

/// What a transaction begins with.
pub struct Opening<'a> {
    /// Of all that it is about.
    pub partitions: HashSet<Partition>,
    /// Of its arrivals.
    pub entities: Vec<&'a Entity>,
    /// Events that become final.
    pub finals: Vec<&'a Settlement>,
    /// Attempts that begin: the event, the attempts begun so far, and the event that has to become final with it.
    pub starts: Vec<(EventId, u16, Option<EventId>)>,
}

/// What was found.
pub struct Opened {
    /// Owner and epoch of each partition.
    pub leases: HashMap<Partition, (Option<Uuid>, i64)>,
    /// Events that are final now: one that another owner has settled is not.
    pub finished: Vec<EventId>,
    /// Events whose next attempt begins.
    pub started: Vec<EventId>,
}

#[derive(FromRow)]
struct Row {
    partitions: Vec<i32>,
    owners: Vec<Option<Uuid>>,
    epochs: Vec<i64>,
    finished: Vec<i64>,
    started: Vec<i64>,
}

/// Opens the transaction. If any lease is another's, it has to be rolled back.
///
/// # Errors
/// sqlx's.
pub async fn open(
    connection: &mut PgConnection,
    member: &Member,
    number: i64,
    opening: Opening<'_>,
) -> Result<Opened, sqlx::Error> {
    let Opening { partitions, entities, finals, starts } = opening;
    let (final_ids, final_attempts) = ids_and_attempts(&finals);
    let row: Row = sqlx::query_as(sql::OPEN)
        .bind(partitions.into_iter().map(|partition| partition.0).collect::<Vec<_>>())
        .bind(member.id)
        .bind(number)
        .bind(entities.into_iter().map(Entity::as_str).collect::<Vec<_>>())
        .bind(final_ids)
        .bind(final_attempts)
        .bind(finals.iter().map(|settlement| settlement.state().name()).collect::<Vec<_>>())
        .bind(UNNUMBERED)
        .bind(starts.iter().map(|(id, ..)| id.0).collect::<Vec<_>>())
        .bind(starts.iter().map(|(_, attempts, _)| small(*attempts)).collect::<Vec<_>>())
        .bind(starts.iter().map(|(.., after)| after.map(|before| before.0)).collect::<Vec<_>>())
        .fetch_one(connection)
        .await?;
    let standing = row.owners.into_iter().zip(row.epochs);
    let events = |ids: Vec<i64>| ids.into_iter().map(EventId).collect();
    Ok(Opened {
        leases: row.partitions.into_iter().map(Partition).zip(standing).collect(),
        finished: events(row.finished),
        started: events(row.started),
    })
}
