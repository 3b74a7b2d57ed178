//! Whether this worker can do its work: what its parts report, in one place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;

/// Before the first renewal.
const NEVER: u64 = u64::MAX;

/// The state of a worker's connections.
#[derive(Debug)]
pub struct Health {
    lease: Duration,
    broker: AtomicBool,
    stopping: AtomicBool,
    /// Milliseconds of [`clock::now`].
    renewed: AtomicU64,
    /// Set by the writer, as long as the database refuses a commit of it.
    refused: Arc<AtomicBool>,
}

impl Health {
    /// Of a worker whose leases last so long, and whose writer says whether it is refused.
    #[must_use]
    pub fn new(lease: Duration, refused: Arc<AtomicBool>) -> Self {
        let renewed = AtomicU64::new(NEVER);
        Self { lease, broker: AtomicBool::new(false), stopping: AtomicBool::new(false), renewed, refused }
    }

    /// The consuming connection is there, or not.
    pub fn set_broker(&self, is_reached: bool) {
        self.broker.store(is_reached, Ordering::Relaxed);
    }

    /// The worker's place in the cluster was renewed, with its leases.
    pub fn renewed(&self) {
        let now = u64::try_from(clock::now().as_millis()).unwrap_or(NEVER);
        self.renewed.store(now, Ordering::Relaxed);
    }

    /// The worker takes nothing new any more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the broker is reached.
    #[must_use]
    pub fn has_broker(&self) -> bool {
        self.broker.load(Ordering::Relaxed)
    }

    /// Whether the database is reached, and has this worker as a member: its leases have not ended.
    #[must_use]
    pub fn has_database(&self) -> bool {
        self.lease_age().is_some_and(|age| age < self.lease)
    }

    /// Since the last renewal; none before the first.
    #[must_use]
    pub fn lease_age(&self) -> Option<Duration> {
        match self.renewed.load(Ordering::Relaxed) {
            NEVER => None,
            millis => Some(clock::now().saturating_sub(Duration::from_millis(millis))),
        }
    }

    /// What keeps this worker from its work; nothing if it is ready.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let stopping = self.stopping.load(Ordering::Relaxed);
        let parts = [
            (stopping, "the worker is stopping"),
            (!self.has_broker(), "the broker is away"),
            (!self.has_database(), "the database is away, or has not taken this worker in as a member"),
            (self.refused.load(Ordering::Relaxed), "the database refuses what the worker writes; the log says why"),
        ];
        parts.into_iter().filter_map(|(is_so, what)| is_so.then_some(what)).collect()
    }
}
