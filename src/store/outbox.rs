//! The outbox of the dead-letter exchange: what is FAILED and not yet published, with its history.

use sqlx::{FromRow, PgPool};

use super::sql::outbox as sql;
use crate::domain::event::EventId;
use crate::lease::Held;

/// A FAILED event, whole.
#[derive(Clone, Debug, FromRow)]
pub struct DeadLetter {
    /// Its number.
    pub event_id: i64,
    /// Its key.
    pub idempotency_key: String,
    /// Why there is no further attempt: a short code.
    pub reason: String,
    /// The entity: the original routing key.
    pub entity: String,
    /// The message's properties in wire format.
    pub properties: Vec<u8>,
    /// The body.
    pub body: Vec<u8>,
    /// Attempts that were begun.
    pub attempts: i16,
    /// Each failed attempt, as JSON.
    pub history: String,
    /// The `traceparent` under which it was ingested.
    pub trace: Option<String>,
    /// When it became FAILED, in microseconds since 1970: an event that is redriven may fail once more.
    pub failed_us: i64,
}

/// The unpublished dead letter of one event.
///
/// # Errors
/// sqlx's.
pub async fn unpublished_one(pool: &PgPool, id: EventId) -> Result<Option<DeadLetter>, sqlx::Error> {
    sqlx::query_as(sql::UNPUBLISHED_ONE).bind(id.0).fetch_optional(pool).await
}

/// Dead letters behind a place that have waited for more than `late_ms`: a crash or a lost connection left them. With the
/// partition of each.
///
/// # Errors
/// sqlx's.
pub async fn left_behind(
    pool: &PgPool,
    partitions: &[i32],
    late_ms: i64,
    behind: EventId,
    limit: i64,
) -> Result<Vec<(EventId, i32)>, sqlx::Error> {
    let rows: Vec<(i64, i32)> = sqlx::query_as(sql::LEFT_BEHIND)
        .bind(partitions)
        .bind(late_ms)
        .bind(limit)
        .bind(behind.0)
        .fetch_all(pool)
        .await?;
    Ok(rows.into_iter().map(|(id, partition)| (EventId(id), partition)).collect())
}

/// The broker has confirmed it. Changes nothing if the partition has another owner, or if the event was redriven and has failed
/// once more since.
///
/// # Errors
/// sqlx's; then it is published a second time.
pub async fn mark_published(pool: &PgPool, letter: &DeadLetter, held: &Held) -> Result<(), sqlx::Error> {
    sqlx::query(sql::MARK_PUBLISHED)
        .bind(letter.event_id)
        .bind(held.partition().0)
        .bind(held.epoch())
        .bind(letter.failed_us)
        .execute(pool)
        .await
        .map(drop)
}
