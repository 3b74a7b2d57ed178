//! Whether this worker can do its work: what its parts report, in one place.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock;
use crate::standstill::Standstill;

/// A commit that is tried again so long is an ordinary thing.
const BRIEF: Duration = Duration::from_secs(1);
/// Before the first renewal.
const NEVER: u64 = u64::MAX;

/// The state of a worker's connections.
#[derive(Debug)]
pub struct Health {
    lease: Duration,
    stopping: AtomicBool,
    /// Milliseconds of [`clock::now`].
    renewed: AtomicU64,
    /// How often the engine's task has gone round: it does so four times a second, whatever happens.
    pub rounds: AtomicU64,
    /// Consuming from the broker.
    pub consuming: Standstill,
    /// Renewing this worker's leases.
    pub renewing: Standstill,
    /// Recording what comes in and what came of it.
    pub recording: Arc<Standstill>,
}

impl Health {
    /// Of a worker whose leases last so long.
    #[must_use]
    pub fn new(lease: Duration) -> Self {
        let (consuming, renewing) = (Standstill::default(), Standstill::default());
        consuming.begin("the broker was not reached yet".into());
        renewing.begin("the database was not reached yet".into());
        let (stopping, renewed) = (AtomicBool::new(false), AtomicU64::new(NEVER));
        let rounds = AtomicU64::new(0);
        Self { lease, stopping, renewed, rounds, consuming, renewing, recording: Arc::default() }
    }

    /// The worker's place in the cluster was renewed, with its leases.
    pub fn renewed(&self) {
        let now = u64::try_from(clock::now().as_millis()).unwrap_or(NEVER);
        self.renewed.store(now, Ordering::Relaxed);
        self.renewing.end();
    }

    /// The engine's task has gone round once more.
    pub fn goes_round(&self) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
    }

    /// The worker takes nothing new any more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the broker is reached.
    #[must_use]
    pub fn has_broker(&self) -> bool {
        self.consuming.cause().is_none()
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

    /// What keeps this worker from its work, and for how long; nothing if it is ready.
    ///
    /// Leases that could not be renewed keep it from nothing before they end.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let stopping = self.stopping.load(Ordering::Relaxed).then(|| "the worker is stopping".to_owned());
        // A machine that was suspended wakes up with leases that have ended, before anything has failed.
        let ended = self.lease_age().filter(|age| *age >= self.lease && self.renewing.cause().is_none());
        let ended = ended.map(|_| "the leases of this worker have ended, and are not renewed yet".to_owned());
        let renewing = if self.has_database() { None } else { self.renewing.cause() };
        let recording = self.recording.cause().filter(|cause| cause.age() >= BRIEF);
        let causes = [self.consuming.cause(), renewing, recording];
        let told = causes.into_iter().flatten().map(|cause| {
            let age = Duration::from_secs(cause.age().as_secs());
            format!("{}; for {}", cause.why, humantime::format_duration(age))
        });
        stopping.into_iter().chain(ended).chain(told).collect()
    }
}
