//! The cap on hosts, shared by the stages: intake asks for places, dispatch starts attempts, each attempt holds a permit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Hosts;
use crate::domain::event::Host;

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
