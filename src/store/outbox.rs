//! The outbox of the dead-letter exchange: what is FAILED and not yet published, with its history.

use sqlx::{FromRow, PgPool};

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
    /// The `traceparent` under which it was taken in.
    pub trace: Option<String>,
    /// When it became FAILED, in microseconds since 1970: an event that is redriven may fail once more.
    pub failed_us: i64,
}

/// The unpublished dead letter of one event.
///
/// # Errors
/// sqlx's.
pub async fn unpublished_one(pool: &PgPool, id: EventId) -> Result<Option<DeadLetter>, sqlx::Error> {
    sqlx::query_as(
        "select d.event_id, (extract(epoch from d.failed_at) * 1000000)::int8 as failed_us, e.idempotency_key, d.reason, e.entity, e.properties, e.body, e.trace, \
         coalesce(o.attempts, f.attempts, 0::int2) as attempts, coalesce((select json_agg(json_strip_nulls( \
         json_build_object('attempt', a.attempt, 'started_at', to_char((a.ended_at - \
         coalesce(a.duration_ms, 0) * interval '1 ms') at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"'), \
         'duration_ms', a.duration_ms, 'status', a.status, \
         'answer', a.answer, 'error', a.error)) order by a.attempt) \
         from failed_attempt a where a.event_id = d.event_id), '[]')::text as history \
         from dead_letter d join event e on e.id = d.event_id \
         left join open_event o on o.event_id = d.event_id left join final_event f on f.event_id = d.event_id \
         where d.event_id = $1 and d.published_at is null",
    )
    .bind(id.0)
    .fetch_optional(pool)
    .await
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
    let rows: Vec<(i64, i32)> = sqlx::query_as(
        "select event_id, partition from dead_letter where published_at is null and partition = any($1) \
         and failed_at < clock_timestamp() - $2 * interval '1 ms' and event_id > $4 order by event_id limit $3",
    )
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
    sqlx::query(
        "update dead_letter d set published_at = clock_timestamp() from partition p \
         where d.event_id = $1 and (extract(epoch from d.failed_at) * 1000000)::int8 = $4 \
         and p.id = $2 and p.epoch = $3 and p.owner is not null",
    )
    .bind(letter.event_id)
    .bind(held.partition().0)
    .bind(held.epoch())
    .bind(letter.failed_us)
    .execute(pool)
    .await
    .map(drop)
}
