//! Keeps the leases: renews them, takes what is free, and tells what is ours.

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::handoff::Notice;
use crate::store::lease::{self, Lease, Member, Validity};

/// How often a worker looks for free partitions while others hold some.
const LOOK_FOR_FREE: Duration = Duration::from_millis(500);

/// The leases of one worker.
pub struct Ownership {
    /// Reads and writes of the leases.
    pub pool: PgPool,
    /// Who we are.
    pub member: Member,
    /// How long a lease holds without renewal.
    pub lease: Duration,
    /// To dispatch.
    pub notices: mpsc::Sender<Notice>,
    /// To intake and rescue.
    pub owned: watch::Sender<Vec<Arc<Lease>>>,
}

impl Ownership {
    /// Renews until `stop`; then gives all partitions back.
    pub async fn run(self, stop: CancellationToken) {
        let validity = Validity::default();
        let mut standing_by = false;
        let _ = stop
            .run_until_cancelled(async {
                loop {
                    let asked = clock::now();
                    match self.turn(&validity, &mut standing_by).await {
                        Ok(complete) => {
                            let pause = if complete { self.lease / 3 } else { LOOK_FOR_FREE.min(self.lease / 3) };
                            tokio::time::sleep(pause.saturating_sub(clock::now().saturating_sub(asked))).await;
                        }
                        Err(error) => {
                            tracing::debug!(%error, "the leases could not be renewed");
                            tokio::time::sleep(LOOK_FOR_FREE.min(self.lease / 10)).await;
                        }
                    }
                }
            })
            .await;
        if let Err(error) = lease::release(&self.pool, &self.member).await {
            tracing::warn!(%error, "the leases could not be given back; they end by themselves");
        }
    }

    /// One renewal and one look for free partitions. True if all partitions are ours.
    async fn turn(&self, validity: &Validity, standing_by: &mut bool) -> Result<bool, sqlx::Error> {
        let asked = clock::now();
        let held = lease::renew(&self.pool, &self.member, self.lease).await?;
        validity.extend(asked + self.lease);
        let mut leases = self.owned.borrow().clone();
        for lost in leases.extract_if(.., |lease| lease.is_lost() || !held.contains(&(lease.partition, lease.epoch))) {
            lost.lose();
            tracing::warn!(partition = %lost.partition, "the partition has another owner");
            let _ = self.notices.send(Notice::Lost(lost.partition)).await;
        }
        let claimed = lease::claim(&self.pool, &self.member, self.lease, validity).await?;
        for lease in &claimed {
            let _ = self.notices.send(Notice::Owned(lease.clone())).await;
        }
        let changed = !claimed.is_empty() || leases.len() != self.owned.borrow().len();
        leases.extend(claimed);
        if changed {
            tracing::info!(partitions = leases.len(), "partitions owned");
            self.owned.send_replace(leases);
        }
        let others = lease::held_by_others(&self.pool, &self.member).await?;
        if let Some((partitions, wait)) = others
            && !*standing_by
        {
            let ends_in =
                humantime::format_duration(Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(0)));
            tracing::info!(partitions, %ends_in, "another worker has partitions; standing by for them");
        }
        *standing_by = others.is_some();
        Ok(others.is_none())
    }
}
