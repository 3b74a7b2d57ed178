//! The cap on a host, and who goes next: small policies over counts, without clock or I/O.
//!
//! Two pools are shared by all hosts: events that wait in memory for their host, and attempts in flight. Of each, a
//! host may take its ceiling, but never more than a share of what is *free* (Choudhury and Hahne, "Dynamic queue length
//! thresholds", 1998). So a few busy hosts get all they can use, and many dead hosts shrink each other's share. That
//! takes until what the first of them took has ended; for as long, a host that comes new finds room in a reserve, of
//! which each host gets one.

pub mod shared;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::domain::event::{Entity, Host};

/// The most events of one host that wait in memory.
pub const WAITING_PER_HOST: usize = 256;
/// The most events that wait in memory for their hosts, over all hosts.
pub const WAITING_IN_ALL: usize = 4_096;
/// How long a full queue may stand before its host counts as slow, and its events are parked in the store.
pub const PATIENCE: Duration = Duration::from_millis(250);
/// A host takes at most the free part of a pool, without the reserve, divided by this.
const SHARE_OF_FREE: usize = 8;
/// The reserve is a pool divided by this.
const SHARE_OF_RESERVE: usize = 16;

/// Where an event goes that is ready to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// There is room in memory; a place is reserved.
    Ready,
    /// The host's queue is full but moves: wait a moment.
    Wait,
    /// The host is slow: the event waits in the store.
    Park,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Entity, Duration)>,
    reserved: usize,
    in_flight: usize,
    in_turn: bool,
    parked: bool,
    reading: Reading,
}

/// Whether parked events are being read.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Reading {
    /// Left by [`Hosts::wants_load`].
    #[default]
    No,
    /// Left by [`Hosts::loaded`].
    Now,
    /// More was parked since the read began, which may not have seen it. Left by [`Hosts::loaded`].
    TooEarly,
}

impl State {
    fn park(&mut self) {
        self.parked = true;
        if self.reading == Reading::Now {
            self.reading = Reading::TooEarly;
        }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty()
            && self.reserved == 0
            && self.in_flight == 0
            && !self.parked
            && self.reading == Reading::No
    }
}

/// All hosts that have work in memory. Times are durations since any fixed moment.
pub struct Hosts {
    per_host: usize,
    in_all: usize,
    by_host: HashMap<Host, State>,
    turns: VecDeque<Host>,
    waiting: usize,
    in_flight: usize,
}

impl Hosts {
    /// `per_host` attempts at a time to one host, `in_all` over all hosts.
    #[must_use]
    pub fn new(per_host: usize, in_all: usize) -> Self {
        Self { per_host, in_all, by_host: HashMap::new(), turns: VecDeque::new(), waiting: 0, in_flight: 0 }
    }

    /// Sets how many attempts at a time one host may have. What is in flight beyond a smaller number runs out.
    pub fn set_per_host(&mut self, per_host: usize) {
        let raised = per_host > self.per_host;
        self.per_host = per_host;
        if raised {
            // Hosts that had all they could get left the round.
            let hosts: Vec<Host> = self.by_host.keys().cloned().collect();
            for host in &hosts {
                self.give_turn(host);
            }
        }
    }

    /// The most attempts that any one host has in flight.
    #[must_use]
    pub fn most_in_flight(&self) -> usize {
        self.by_host.values().map(|state| state.in_flight).max().unwrap_or(0)
    }

    /// Of each host, the attempts in flight, and the events in memory that wait for their turn.
    pub fn loads(&self) -> impl Iterator<Item = (&Host, usize, usize)> {
        self.by_host.iter().map(|(host, state)| (host, state.in_flight, state.waiting.len()))
    }

    /// Attempts in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Asks for a place for one more event of `host`. [`Offer::Ready`] is followed by [`Self::enqueue`] or
    /// [`Self::release_place`].
    pub fn offer(&mut self, host: &Host, now: Duration) -> Offer {
        let ceiling = share(WAITING_IN_ALL, self.waiting, WAITING_PER_HOST);
        let state = self.by_host.entry(host.clone()).or_default();
        if state.waiting.len() + state.reserved < ceiling && !state.parked {
            state.reserved += 1;
            self.waiting += 1;
            return Offer::Ready;
        }
        let since = state.waiting.front().map_or(now, |(_, since)| *since);
        if state.parked || now.saturating_sub(since) > PATIENCE || ceiling == 0 {
            // An empty queue gets no mark: only the end of something in it, or of a read, brings anybody back to look.
            if !state.waiting.is_empty() || state.reading != Reading::No {
                state.park();
            }
            self.drop_if_idle(host);
            Offer::Park
        } else {
            Offer::Wait
        }
    }

    /// Gives back a place that is not needed.
    pub fn release_place(&mut self, host: &Host) {
        if let Some(state) = self.by_host.get_mut(host) {
            state.reserved -= 1;
            self.waiting -= 1;
        }
        self.drop_if_idle(host);
    }

    /// Uses a reserved place.
    pub fn enqueue(&mut self, host: &Host, entity: Entity, now: Duration) {
        if let Some(state) = self.by_host.get_mut(host) {
            state.reserved -= 1;
            self.waiting -= 1;
        }
        self.enqueue_loaded(host, entity, now);
    }

    /// For the next event of a line that is at work: it is taken in even if the queue is full, as long as the host
    /// moves; there is at most one for each lane. False: park it.
    pub fn enqueue_next_in_line(&mut self, host: &Host, entity: Entity, now: Duration) -> bool {
        match self.offer(host, now) {
            Offer::Ready => self.enqueue(host, entity, now),
            Offer::Wait => self.enqueue_loaded(host, entity, now),
            Offer::Park => return false,
        }
        true
    }

    /// The next entity to be sent, by turns of the hosts, with one attempt more counted in flight for its host.
    pub fn start_next(&mut self) -> Option<(Host, Entity)> {
        let ceiling = share(self.in_all, self.in_flight, self.per_host);
        if ceiling == 0 {
            return None;
        }
        while let Some(host) = self.turns.pop_front() {
            let Some(state) = self.by_host.get_mut(&host) else { continue };
            state.in_turn = false;
            if state.in_flight >= ceiling {
                // The host leaves the round; the end of one of its own attempts brings it back.
                continue;
            }
            let Some((entity, _)) = state.waiting.pop_front() else { continue };
            state.in_flight += 1;
            self.in_flight += 1;
            self.waiting -= 1;
            self.give_turn(&host);
            return Some((host, entity));
        }
        None
    }

    /// An attempt has ended, or was not begun.
    pub fn ended(&mut self, host: &Host) {
        if let Some(state) = self.by_host.get_mut(host) {
            state.in_flight -= 1;
            self.in_flight -= 1;
        }
        self.give_turn(host);
        self.drop_if_idle(host);
    }

    /// The store holds parked events of this host.
    pub fn note_parked(&mut self, host: &Host) {
        self.by_host.entry(host.clone()).or_default().park();
    }

    /// How many of the host's parked events to read, if it is time to; then [`Self::loaded`] has to follow. It is time
    /// when three quarters of the host's share of the memory are free.
    pub fn wants_load(&mut self, host: &Host) -> Option<usize> {
        let ceiling = share(WAITING_IN_ALL, self.waiting, WAITING_PER_HOST);
        let state = self.by_host.get_mut(host)?;
        let used = state.waiting.len() + state.reserved;
        if ceiling == 0 && used == 0 && state.in_flight == 0 && state.reading == Reading::No {
            // There is no room for anything of it now: it is forgotten until a sweep names it again.
            self.by_host.remove(host);
            return None;
        }
        if !state.parked || state.reading != Reading::No || ceiling == 0 || used > ceiling / 4 {
            return None;
        }
        state.reading = Reading::Now;
        Some(ceiling - used)
    }

    /// Parked events of the host were read; `more` says that others are left.
    pub fn loaded(&mut self, host: &Host, more: bool) {
        let state = self.by_host.entry(host.clone()).or_default();
        state.parked = more || state.reading == Reading::TooEarly;
        state.reading = Reading::No;
        self.drop_if_idle(host);
    }

    /// Takes in an event whatever the ceiling: one that was read back from the store, in a bounded number.
    pub fn enqueue_loaded(&mut self, host: &Host, entity: Entity, now: Duration) {
        self.waiting += 1;
        self.by_host.entry(host.clone()).or_default().waiting.push_back((entity, now));
        self.give_turn(host);
    }

    fn give_turn(&mut self, host: &Host) {
        if let Some(state) = self.by_host.get_mut(host)
            && !state.in_turn
            && !state.waiting.is_empty()
        {
            state.in_turn = true;
            self.turns.push_back(host.clone());
        }
    }

    fn drop_if_idle(&mut self, host: &Host) {
        if self.by_host.get(host).is_some_and(State::is_idle) {
            self.by_host.remove(host);
        }
    }
}

/// What one host may take of a pool of which `used` is taken.
fn share(pool: usize, used: usize, ceiling: usize) -> usize {
    let free = pool.saturating_sub(used);
    let shared = free.saturating_sub(pool / SHARE_OF_RESERVE);
    ceiling.min((shared / SHARE_OF_FREE).max(usize::from(free > 0)))
}

#[cfg(test)]
mod tests;
