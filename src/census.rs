//! Counts the open events of our partitions from time to time, for the gauges.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::domain::lifecycle::State;
use crate::lease::Lease;
use crate::store::census::{self, Census};
use crate::telemetry::metrics::Backlog;
use crate::telemetry::transaction;

/// The pause between two counts.
const EVERY: Duration = Duration::from_secs(15);
/// A count takes at most this part of the time: with a long backlog, the pause is longer.
const PART: u32 = 20;

/// The last count, shared by those who count and those who ask.
#[derive(Clone, Debug, Default)]
pub struct Counted(Arc<Mutex<Backlog>>);

impl Counted {
    /// The last count.
    #[must_use]
    pub fn last(&self) -> Backlog {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, backlog: Backlog) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = backlog;
    }
}

/// Counts until `stop`.
pub async fn run(pool: PgPool, mut owned: watch::Receiver<Vec<Arc<Lease>>>, counted: Counted, stop: CancellationToken) {
    let counting = async {
        loop {
            let partitions: Vec<i32> = owned.borrow_and_update().iter().map(|lease| lease.partition.0).collect();
            let began = clock::now();
            match count(&pool, &partitions).await {
                Ok(census) => counted.set(backlog(&census)),
                Err(error) => tracing::debug!(%error, "open events could not be counted; it is tried again"),
            }
            let took = clock::now().saturating_sub(began);
            tokio::time::sleep(EVERY.max(took * PART)).await;
        }
    };
    stop.run_until_cancelled(counting).await;
}

async fn count(pool: &PgPool, partitions: &[i32]) -> Result<Census, sqlx::Error> {
    if partitions.is_empty() {
        return Ok(Census::default());
    }
    let mut connection = pool.acquire().await?;
    transaction("census", census::count(&mut connection, partitions)).await
}

fn backlog(census: &Census) -> Backlog {
    let number = |count: i64| u64::try_from(count).unwrap_or(0);
    let (retry_wait, held) = (number(census.retry_wait), number(census.held));
    Backlog {
        by_state: vec![
            (State::Pending.name(), number(census.pending)),
            (State::InFlight.name(), number(census.in_flight)),
            (State::RetryWait.name(), retry_wait),
            (State::Failed.name(), held),
        ],
        // The head of a line is what keeps it waiting.
        blocked: vec![("retry", retry_wait), ("on_hold", held), ("gap", number(census.gaps))],
        oldest: census.oldest(),
    }
}
