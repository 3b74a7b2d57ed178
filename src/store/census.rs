//! Counting open events, for those who watch.

use std::time::Duration;

use sqlx::{FromRow, PgConnection};

/// Open events of some partitions.
#[derive(Clone, Debug, Default, FromRow, PartialEq, Eq)]
pub struct Census {
    /// Events in the state PENDING.
    pub pending: i64,
    /// Events in the state `IN_FLIGHT`.
    pub in_flight: i64,
    /// Events in the state `RETRY_WAIT`; each blocks its entity.
    pub retry_wait: i64,
    /// Events in the state FAILED that hold their entity.
    pub held: i64,
    /// Entities that wait for a number.
    pub gaps: i64,
    /// Milliseconds since the oldest event was recorded.
    pub oldest_ms: Option<i64>,
}

impl Census {
    /// The age of the oldest event.
    #[must_use]
    pub fn oldest(&self) -> Option<Duration> {
        self.oldest_ms.map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
    }
}

/// Counts. Reads every open event of the partitions, but no body: about a second for a million.
///
/// # Errors
/// sqlx's.
pub async fn count(connection: &mut PgConnection, partitions: &[i32]) -> Result<Census, sqlx::Error> {
    sqlx::query_as(
        "with mine as (select event_id, entity, position, state from open_event where partition = any($1)), \
         heads as (select entity, min(position) as position from mine group by entity) \
         select count(*) filter (where state = 'PENDING') as pending, \
         count(*) filter (where state = 'IN_FLIGHT') as in_flight, \
         count(*) filter (where state = 'RETRY_WAIT') as retry_wait, \
         count(*) filter (where state = 'FAILED') as held, \
         (select count(*) from heads h join entity_sequence s on s.entity = h.entity \
         where h.position > s.next_sequence) as gaps, \
         (select (extract(epoch from clock_timestamp() - e.recorded_at) * 1000)::int8 from event e \
         where e.id = (select min(event_id) from mine)) as oldest_ms from mine",
    )
    .bind(partitions)
    .fetch_one(connection)
    .await
}
