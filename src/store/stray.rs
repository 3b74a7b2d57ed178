//! Events of an entity that came in by another partition's queue than the one that its line is in.
//!
//! A broker that restarts may number the buckets of its consistent-hash exchange anew, and deal an entity to another queue
//! than before. The line stays where it is until it is empty; whoever takes such an event in leaves a note here for the
//! line's owner.

use std::collections::HashSet;

use sqlx::PgConnection;

use super::sql::stray as sql;
use crate::domain::event::{Entity, Host};
use crate::engine::command::Gathered;

/// Notes that one look takes at most.
const AT_MOST: i64 = 1_000;

/// Whether there are notes for the owner of these partitions.
///
/// # Errors
/// sqlx's.
pub async fn any(connection: &mut PgConnection, partitions: &[i32]) -> Result<bool, sqlx::Error> {
    let (any,): (bool,) = sqlx::query_as(sql::ANY).bind(partitions).fetch_one(connection).await?;
    Ok(any)
}

/// Takes the notes for the owner of these partitions, and parks every PENDING head of those lines: whatever is not at
/// work in memory is then found host by host.
///
/// # Errors
/// sqlx's.
pub async fn gather(connection: &mut PgConnection, partitions: &[i32]) -> Result<Gathered, sqlx::Error> {
    let taken: Vec<(String,)> =
        sqlx::query_as(sql::TAKE).bind(partitions).bind(AT_MOST).fetch_all(&mut *connection).await?;
    let entities: HashSet<String> = taken.into_iter().map(|(entity,)| entity).collect();
    let parked: Vec<(String,)> = sqlx::query_as(sql::PARK_HEADS)
        .bind(entities.iter().map(String::as_str).collect::<Vec<_>>())
        .bind(partitions)
        .fetch_all(connection)
        .await?;
    let hosts: HashSet<String> = parked.into_iter().map(|(host,)| host).collect();
    Ok(Gathered {
        entities: entities.into_iter().map(Entity::from).collect(),
        hosts: hosts.into_iter().map(Host::from).collect(),
    })
}

/// Leaves a note for each of the events: (event, its line's partition, entity).
///
/// # Errors
/// sqlx's.
pub async fn note(connection: &mut PgConnection, events: &[(i64, i32, &str)]) -> Result<(), sqlx::Error> {
    if events.is_empty() {
        return Ok(());
    }
    sqlx::query(sql::NOTE)
        .bind(events.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
        .bind(events.iter().map(|(_, partition, _)| *partition).collect::<Vec<_>>())
        .bind(events.iter().map(|(.., entity)| *entity).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
}
