//! Counting open events, for those who watch.

use std::time::Duration;

use sqlx::{FromRow, PgConnection};

use super::sql::census as sql;

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
    sqlx::query_as(sql::COUNT).bind(partitions).fetch_one(connection).await
}
