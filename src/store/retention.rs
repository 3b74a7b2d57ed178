//! Finished events and their keys are deleted when their retention ends, in small batches.

use std::time::Duration;

use sqlx::PgPool;

/// Events that one transaction deletes.
pub const BATCH: i64 = 500;
/// The oldest finished events that one look considers, so that it costs the same whatever the size of history.
const LOOK: i64 = 5_000;

/// Deletes up to [`BATCH`] events that are final for longer than `retention`, with all that belongs to them, and gives
/// their number. A dead letter that the broker has not confirmed keeps its event.
///
/// What is deleted follows from the rows of `final_event` that this statement itself has taken away: one that a redrive took
/// while this waited for a lock is open again, and keeps all that belongs to it.
///
/// # Errors
/// sqlx's.
pub async fn sweep(pool: &PgPool, retention: Duration) -> Result<u64, sqlx::Error> {
    let seconds = i64::try_from(retention.as_secs()).unwrap_or(i64::MAX);
    let deleted: (i64,) = sqlx::query_as(
        "with expired as (select f.event_id from (select event_id, finished_at from final_event \
         order by event_id limit $2) f left join dead_letter d on d.event_id = f.event_id \
         where f.finished_at < clock_timestamp() - $1 * interval '1 s' \
         and (d.event_id is null or d.published_at is not null) order by f.event_id limit $3), \
         finals as (delete from final_event where event_id in (select event_id from expired) returning event_id), \
         attempts as (delete from failed_attempt where event_id in (select event_id from finals)), \
         letters as (delete from dead_letter where event_id in (select event_id from finals)), \
         events as (delete from event where id in (select event_id from finals) returning 1) \
         select count(*) from events",
    )
    .bind(seconds)
    .bind(LOOK)
    .bind(BATCH)
    .fetch_one(pool)
    .await?;
    Ok(u64::try_from(deleted.0).unwrap_or(0))
}
