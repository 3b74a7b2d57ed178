//! Finished events and their keys are deleted when their retention ends, in small batches.

use std::time::Duration;

use sqlx::PgPool;

use super::sql::retention as sql;

/// Events that one transaction deletes.
pub const BATCH: i64 = 500;
/// The oldest finished events that one look considers, so that it costs the same whatever the size of history.
const LOOK: i64 = 5_000;

/// Deletes up to [`BATCH`] events that are final for longer than `retention`, with all that belongs to them, and gives
/// their number. A dead letter that the broker has not confirmed keeps its event.
///
/// # Errors
/// sqlx's.
pub async fn sweep(pool: &PgPool, retention: Duration) -> Result<u64, sqlx::Error> {
    let seconds = i64::try_from(retention.as_secs()).unwrap_or(i64::MAX);
    let deleted: (i64,) = sqlx::query_as(sql::SWEEP).bind(seconds).bind(LOOK).bind(BATCH).fetch_one(pool).await?;
    Ok(u64::try_from(deleted.0).unwrap_or(0))
}
