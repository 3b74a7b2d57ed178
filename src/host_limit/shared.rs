//! The cap on hosts, shared by the stages: intake asks for places, dispatch starts attempts, each attempt holds a permit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::Hosts;
use crate::domain::event::{Entity, Host};

/// All hosts behind one lock, held for the time of a few map look-ups and never over an await.
pub struct HostLimit {
    hosts: Mutex<Hosts>,
    /// An attempt has ended: there may be something to start.
    pub turn: Notify,
    /// An event has left a host's queue: there may be a place.
    pub room: Notify,
}

impl HostLimit {
    /// `per_host` attempts at a time to one host, `in_all` over all hosts.
    #[must_use]
    pub fn new(per_host: usize, in_all: usize) -> Arc<Self> {
        let hosts = Mutex::new(Hosts::new(per_host, in_all));
        Arc::new(Self { hosts, turn: Notify::new(), room: Notify::new() })
    }

    /// The counts. A panic elsewhere leaves them as consistent as they were.
    pub fn lock(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how many attempts at a time one host may have here: this worker's share of the cap.
    pub fn set_per_host(&self, per_host: u16) {
        self.lock().set_per_host(per_host.into());
        self.turn.notify_one();
    }

    /// The most attempts that any one host has in flight here.
    #[must_use]
    pub fn most_in_flight(&self) -> usize {
        self.lock().most_in_flight()
    }

    /// The place in memory that [`Hosts::offer`] has reserved, with a share of the memory for bodies.
    #[must_use]
    pub fn place(self: &Arc<Self>, host: Host, budget: OwnedSemaphorePermit) -> Place {
        Place { limit: self.clone(), host: Some(host), budget: Some(budget) }
    }

    /// The permit for an attempt that [`Hosts::start_next`] has counted.
    #[must_use]
    pub fn permit(self: &Arc<Self>, host: Host) -> Permit {
        Permit { limit: self.clone(), host }
    }
}

/// One attempt's place at its host; given back on drop.
pub struct Permit {
    limit: Arc<HostLimit>,
    host: Host,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limit.lock().ended(&self.host);
        self.limit.turn.notify_one();
    }
}

/// A place in memory for one event of a host: taken up, or given back on drop.
pub struct Place {
    limit: Arc<HostLimit>,
    /// None once it is taken up.
    host: Option<Host>,
    budget: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// The share of the memory for bodies, to be kept for longer than the place.
    pub fn take_budget(&mut self) -> Option<OwnedSemaphorePermit> {
        self.budget.take()
    }

    /// The entity waits here for its turn.
    pub fn take_up(mut self, entity: Entity, now: Duration) {
        if let Some(host) = self.host.take() {
            self.limit.lock().enqueue(&host, entity, now);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(host) = self.host.take() {
            self.limit.lock().release_place(&host);
            self.limit.room.notify_one();
        }
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Place").field(&self.host).finish()
    }
}
