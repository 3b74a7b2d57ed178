//! What systemd is told of a worker, as a service of `Type=notify`: that it runs, how it is, that it lives, that it stops.
//! Where nobody listens, nothing is told.
//!
//! **It runs** as soon as it has looked for its servers, whether it has them or waits for them: a broker or a database that is
//! down is no reason to start another worker, which would wait as well. **It lives** as long as the engine's task goes round,
//! which it does whatever servers and receivers do.

use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};

use crate::clock;
use crate::config::systemd::Manager;
use crate::health::Health;

/// How often what is shown of the worker is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// What an end takes besides the drain: the last lines, spans and figures leave.
const LEAVE: Duration = Duration::from_secs(10);

/// A worker, as systemd sees it.
pub struct Service {
    manager: Manager,
    runs: AtomicBool,
    stops: AtomicBool,
    /// The engine runs from when this is here.
    health: OnceLock<Arc<Health>>,
    /// Rounds of the engine's task, when they were last looked at.
    rounds: AtomicU64,
    shown: Mutex<String>,
}

impl Service {
    /// Of a worker that starts.
    #[must_use]
    pub fn new(manager: Manager) -> Self {
        let (runs, stops) = (AtomicBool::new(false), AtomicBool::new(false));
        let (health, rounds, shown) = (OnceLock::new(), AtomicU64::new(0), Mutex::default());
        Self { manager, runs, stops, health, rounds, shown }
    }

    /// The worker runs, and waits for a server.
    pub fn waits(&self, why: &str) {
        self.show(&format!("waiting: {why}"));
        self.is_up();
    }

    /// The worker runs, and its engine, too.
    pub fn works(&self, health: &Arc<Health>) {
        let _ = self.health.set(Arc::clone(health));
        self.show_health();
    }

    fn is_up(&self) {
        if !self.runs.load(Ordering::Relaxed) && self.tell("READY=1") {
            self.runs.store(true, Ordering::Relaxed);
        }
    }

    /// The worker stops, and may take so long.
    pub fn stops_within(&self, time: Duration) {
        self.stops.store(true, Ordering::Relaxed);
        let micros = (time + LEAVE).as_micros();
        self.tell(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\nSTATUS=stopping: what is in flight is finished"));
    }

    /// Settings are read again, until [`Self::has_reloaded`].
    pub fn reloads(&self) {
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic().as_micros()));
    }

    /// Settings were read again, whatever came of it.
    pub fn has_reloaded(&self) {
        // A worker that has not said yet that it runs does not say it here.
        if self.runs.load(Ordering::Relaxed) && !self.stops.load(Ordering::Relaxed) {
            self.tell("READY=1");
        }
    }

    /// Shows how the worker is, and that it lives, for as long as this is polled.
    pub async fn keep(&self) {
        if self.manager.socket.is_none() {
            return std::future::pending().await;
        }
        let mut look = every(LOOK);
        let mut alive = self.manager.watchdog.map(|watchdog| every(watchdog / 2));
        loop {
            let asked = async {
                match &mut alive {
                    Some(alive) => alive.tick().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = look.tick() => self.show_health(),
                _ = asked => if self.lives() {
                    self.tell("WATCHDOG=1");
                },
            }
        }
    }

    /// Whether the engine's task has gone round since this was last asked. Before there is one, the worker waits for servers; and
    /// a drain has its time.
    fn lives(&self) -> bool {
        let Some(health) = self.health.get() else { return true };
        let rounds = health.rounds.load(Ordering::Relaxed);
        let before = self.rounds.swap(rounds, Ordering::Relaxed);
        rounds != before || self.stops.load(Ordering::Relaxed)
    }

    fn show_health(&self) {
        let Some(health) = self.health.get().filter(|_| !self.stops.load(Ordering::Relaxed)) else { return };
        self.is_up();
        match &*health.missing() {
            [] => self.show("ready"),
            missing => self.show(&format!("not ready: {}", missing.join("; "))),
        }
    }

    fn show(&self, status: &str) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if *shown != status {
            status.clone_into(&mut shown);
            self.tell(&format!("STATUS={}", status.replace('\n', " ")));
        }
    }

    /// Nothing waits for systemd. Whether it was told.
    fn tell(&self, state: &str) -> bool {
        let Some(socket) = &self.manager.socket else { return true };
        let told = UnixDatagram::unbound().and_then(|from| {
            from.set_nonblocking(true)?;
            from.send_to_addr(state.as_bytes(), socket)
        });
        if let Err(error) = &told {
            tracing::debug!(%error, state, "systemd could not be told");
        }
        told.is_ok()
    }
}

fn every(time: Duration) -> Interval {
    let mut interval = tokio::time::interval(time.max(Duration::from_millis(1)));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_lives_while_its_engine_goes_round_and_while_there_is_none_yet_or_no_more() {
        let service = Service::new(Manager::default());
        assert!(service.lives() && service.lives(), "it waits for its servers");
        let health = Arc::new(Health::new(Duration::from_secs(15)));
        service.works(&health);
        health.goes_round();
        assert!(service.lives());
        assert!(!service.lives(), "the engine stands still");
        health.goes_round();
        assert!(service.lives() && !service.lives());
        service.stops_within(Duration::from_secs(30));
        assert!(service.lives() && service.lives(), "it drains");
    }
}
