//! The cap on hosts, shared by the stages: intake asks for places, dispatch starts attempts, each attempt holds a permit.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::Hosts;
use crate::domain::event::{Entity, Host};

/// All hosts behind one lock, held for the time of a few map look-ups and never over an await.
pub struct HostLimit {
    hosts: Mutex<Hosts>,
    /// An attempt has ended: there may be something to start, or to send.
    pub turn: Notify,
    /// An event has left a host's queue, or an attempt of a fast host has ended: there may be a place.
    pub room: Notify,
}

impl HostLimit {
    /// `per_host` requests at a time to one host; `in_all` attempts begun over all hosts.
    #[must_use]
    pub fn new(per_host: usize, in_all: usize) -> Arc<Self> {
        let hosts = Mutex::new(Hosts::new(per_host, in_all));
        Arc::new(Self { hosts, turn: Notify::new(), room: Notify::new() })
    }

    /// The counts. A panic elsewhere leaves them as consistent as they were.
    pub fn lock(&self) -> MutexGuard<'_, Hosts> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how many requests at a time one host may have from here: this worker's share of the cap.
    pub fn set_share(&self, share: u16) {
        self.lock().set_share(share.into());
        self.turn.notify_one();
    }

    /// Sets how many attempts one host may have begun, before its share becomes smaller.
    pub fn set_per_host(&self, per_host: u16) {
        self.lock().set_per_host(per_host.into());
        self.turn.notify_one();
    }

    /// The most attempts that any one host has begun here.
    #[must_use]
    pub fn most_begun(&self) -> usize {
        self.lock().most_begun()
    }

    /// The place in memory that [`Hosts::offer`] has reserved, with a share of the memory for bodies.
    #[must_use]
    pub fn place(self: &Arc<Self>, host: Host, budget: OwnedSemaphorePermit) -> Place {
        Place { limit: self.clone(), host, held: Holding::Reserved, budget: Some(budget) }
    }

    /// The permit for an attempt that [`Hosts::start_next`] has counted.
    #[must_use]
    pub fn permit(self: &Arc<Self>, host: Host) -> Permit {
        Permit { limit: self.clone(), host, sent: false, took: None }
    }

    /// The permit for the next event of a line, if [`Hosts::begin_next_in_line`] counts it.
    #[must_use]
    pub fn begin_next_in_line(self: &Arc<Self>, host: &Host) -> Option<Permit> {
        let begins = self.lock().begin_next_in_line(host);
        begins.then(|| self.permit(host.clone()))
    }

    fn ended(&self, host: &Host, sent: bool, took: Option<Duration>) {
        if self.lock().ended(host, sent, took) {
            self.room.notify_one();
        }
        self.turn.notify_one();
    }
}

/// One attempt's place at its host; given back on drop.
pub struct Permit {
    limit: Arc<HostLimit>,
    host: Host,
    sent: bool,
    took: Option<Duration>,
}

impl Permit {
    /// Whether the cap allows the request. Asked for again later if not.
    #[must_use]
    pub fn send(&mut self) -> bool {
        self.sent = self.sent || self.limit.lock().send(&self.host);
        self.sent
    }

    /// The request is over, and took this long; none if it was not made.
    pub fn end(mut self, took: Option<Duration>) {
        self.took = took;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limit.ended(&self.host, self.sent, self.took);
    }
}

/// A place in memory for one event of a host: taken up, or given back on drop.
pub struct Place {
    limit: Arc<HostLimit>,
    host: Host,
    held: Holding,
    budget: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Holding {
    /// A place in the host's queue. Left by [`Place::begin`], [`Place::take_up`] and drop.
    Reserved,
    /// An attempt of the host. Left by [`Place::into_permit`], [`Place::take_up`] and drop.
    Begun,
    /// Nothing any more. Never left.
    Nothing,
}

impl Place {
    /// Lets the event's first attempt begin as it is recorded, if its host may.
    pub fn begin(&mut self) {
        if matches!(self.held, Holding::Reserved) && self.limit.lock().begin_in_place(&self.host) {
            self.held = Holding::Begun;
        }
    }

    /// Whether an attempt begins here.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        matches!(self.held, Holding::Begun)
    }

    /// The permit for the attempt that has begun here.
    #[must_use]
    pub fn into_permit(mut self) -> Option<Permit> {
        if !self.is_begun() {
            return None;
        }
        self.held = Holding::Nothing;
        Some(self.limit.permit(self.host.clone()))
    }

    /// The share of the memory for bodies, to be kept for longer than the place.
    pub fn take_budget(&mut self) -> Option<OwnedSemaphorePermit> {
        self.budget.take()
    }

    /// The entity waits here for its turn.
    pub fn take_up(mut self, entity: Entity, now: Duration) {
        match std::mem::replace(&mut self.held, Holding::Nothing) {
            Holding::Reserved => self.limit.lock().enqueue(&self.host, entity, now),
            Holding::Begun => {
                self.limit.lock().enqueue_loaded(&self.host, entity, now);
                self.limit.ended(&self.host, false, None);
            }
            Holding::Nothing => {}
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match self.held {
            Holding::Reserved => {
                self.limit.lock().release_place(&self.host);
                self.limit.room.notify_one();
            }
            Holding::Begun => self.limit.ended(&self.host, false, None),
            Holding::Nothing => {}
        }
    }
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Place").field(&self.host).field(&self.held).finish()
    }
}
