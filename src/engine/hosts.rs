//! The cap on a host, and who goes next: small policies over counts, without clock or I/O.
//!
//! An attempt is *begun* when a commit is to record it, and *sending* when its request goes out, which the cap allows. To
//! a host that answers fast, attempts are begun ahead of the cap: what it takes while a commit or two are under way.
//! Otherwise the cap would limit how many attempts share a commit, and not only how many requests are open.
//!
//! Two pools are shared by all hosts: events that wait in memory for their host, and attempts that are begun. Of each, a
//! host may take its ceiling, but never more than a share of what is *free* (Choudhury and Hahne, "Dynamic queue length
//! thresholds", 1998). So a few busy hosts get all they can use, and many dead hosts shrink each other's share. That
//! takes until what the first of them took has ended; for as long, a host that comes new finds room in a reserve, of
//! which each host gets one.

pub mod adaptive;
mod gate;
pub mod gates;
mod limit;
mod pace;
mod parked;
mod rate;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::adaptive::Adaptive;
use self::gates::Gates;
use self::limit::{Limit, Throttle};
use self::pace::Pace;
use self::parked::Reading;
use crate::domain::destination::Destinations;
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
/// A fast host that was full takes newcomers again when this part of what it may have begun is free: their commits and
/// acknowledgements are for many at a time.
const SHARE_OF_NEWCOMERS: usize = 4;
/// Attempts are begun ahead of the cap only out of the part of their pool beyond this.
const SHARE_WITHOUT_LEAD: usize = 2;

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

/// Whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The host.
    pub host: Host,
    /// The entity.
    pub entity: Entity,
    /// Its attempt begins; if not, it waits in the store.
    pub begins: bool,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(Entity, Duration)>,
    reserved: usize,
    begun: usize,
    /// Of those that are begun.
    sending: usize,
    pace: Pace,
    limit: Limit,
    throttle: Throttle,
    /// The most requests at a time that its gate lets through, if it is not open, and that it is found to bear.
    gate: Option<usize>,
    /// When it gave its last good answer.
    last_well: Duration,
    /// A fast host has all that may be begun: newcomers wait until there is room for some of them together.
    full: bool,
    /// Since when nothing has ended while somebody waited.
    standing_since: Option<Duration>,
    in_turn: bool,
    parked: bool,
    reading: Reading,
}

impl State {
    /// Everything of this host in memory.
    fn in_memory(&self) -> usize {
        self.waiting.len() + self.reserved + self.begun
    }

    /// Whether newcomers that had to wait have room for many again, with at most `limit` in memory.
    fn has_room_again(&mut self, limit: usize) -> bool {
        let room = self.full && self.in_memory() <= limit - limit / SHARE_OF_NEWCOMERS;
        self.full &= !room;
        room
    }

    /// One more attempt begins at a worker that has this share of the cap.
    fn begin(&mut self, now: Duration, (share, cap): (usize, usize)) {
        self.begun += 1;
        self.throttle.note(self.limit, (share, cap), now);
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.reserved == 0 && self.begun == 0 && !self.parked && self.reading == Reading::No
    }
}

/// All hosts that have work in memory. Times are durations since any fixed moment.
pub struct Hosts {
    /// Attempts that one host may have begun, but for those ahead of the cap.
    per_host: usize,
    /// Requests that one host may have: this worker's share of the cap.
    share: usize,
    /// The cap, as this worker's own settings have it.
    cap: usize,
    in_all: usize,
    destinations: Arc<Destinations>,
    gates: Gates,
    /// Of hosts whose limit finds itself, with the number of the last record that was heeded.
    adaptive: HashMap<Host, (Adaptive, i64)>,
    now: Duration,
    closed: bool,
    by_host: HashMap<Host, State>,
    turns: VecDeque<Host>,
    /// Those that wait for their rate.
    throttled: Vec<Host>,
    /// When these were looked at last.
    looked: Duration,
    waiting: usize,
    begun: usize,
    sending: usize,
}

impl Hosts {
    /// No share yet of a `cap` on requests at a time to one host; `in_all` attempts begun over all hosts.
    #[must_use]
    pub fn new(cap: usize, in_all: usize, destinations: Arc<Destinations>) -> Self {
        Self {
            per_host: 0,
            share: 0,
            cap,
            in_all,
            destinations,
            gates: Gates::default(),
            adaptive: HashMap::new(),
            now: Duration::ZERO,
            closed: false,
            by_host: HashMap::new(),
            turns: VecDeque::new(),
            throttled: Vec::new(),
            looked: Duration::ZERO,
            waiting: 0,
            begun: 0,
            sending: 0,
        }
    }

    /// The settings are others. What is open beyond a smaller limit runs out.
    pub fn follow(&mut self, destinations: &Arc<Destinations>) {
        self.destinations = destinations.clone();
        for (host, state) in &mut self.by_host {
            state.limit = Limit::of(destinations.of(host));
        }
        self.adaptive.retain(|host, _| destinations.of(host).adaptive);
        self.heed_gates();
    }

    /// Sets how many requests at a time one host may have. What is open beyond a smaller number runs out.
    pub fn set_share(&mut self, share: usize) {
        self.share = share;
        self.heed_gates();
        self.set_per_host(share);
    }

    /// Sets how many attempts one host may have begun, before the share becomes smaller. What is begun beyond it runs out,
    /// and goes on being sent.
    pub fn set_per_host(&mut self, per_host: usize) {
        self.per_host = per_host.min(self.share);
        self.give_all_turns();
    }

    /// Hosts that had all they could get left the round.
    fn give_all_turns(&mut self) {
        let mut hosts: Vec<Host> = self.by_host.keys().cloned().collect();
        hosts.sort_unstable();
        for host in &hosts {
            self.give_turn(host);
        }
    }

    /// Lets nothing begin any more.
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// The share of the cap that is in use: the most attempts that any one host has begun, if its limit is the cap.
    #[must_use]
    pub fn most_begun(&self) -> usize {
        self.by_host.values().map(|state| state.limit.share_for(state.begun, self.cap)).max().unwrap_or(0)
    }

    /// Of each host, the requests that are open, and the events in memory that wait for their turn.
    pub fn loads(&self) -> impl Iterator<Item = (&Host, usize, usize)> {
        self.by_host.iter().map(|(host, state)| {
            let waiting = state.waiting.len() + state.begun - state.sending;
            (host, state.sending, waiting)
        })
    }

    /// Entries of destinations of whose limit this worker's share is less than one request.
    pub fn crowded(&self) -> impl Iterator<Item = &str> {
        let crowded = |limit: Limit| limit.is_crowded(self.share, self.cap);
        let entries = self.destinations.all().filter(move |destination| crowded(Limit::of(destination)));
        entries.map(|destination| &*destination.entry)
    }

    /// Attempts that are begun, and not sent yet.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.begun - self.sending
    }

    /// Whether this worker may send anything at all.
    #[must_use]
    pub fn has_share(&self) -> bool {
        self.share > 0
    }

    /// Asks for a place for one more event of `host`. [`Offer::Ready`] is followed by [`Self::enqueue`] or
    /// [`Self::release_place`].
    pub fn offer(&mut self, host: &Host, now: Duration) -> Offer {
        let ceiling = share(WAITING_IN_ALL, self.waiting, WAITING_PER_HOST);
        let known = self.by_host.get(host);
        let (per_host, limit) = (self.per_host(host, known), self.with_lead(host, known));
        if self.gates.is_shut(host) {
            return Offer::Park;
        }
        let state = self.state(host);
        if state.waiting.len() + state.reserved < ceiling && !state.parked {
            state.full |= state.in_memory() >= limit;
            if state.full && state.pace.is_fast(per_host) {
                // It would wait in its queue no longer than here, and recording it would be two commits instead of one.
                let since = *state.standing_since.get_or_insert(now);
                if now.saturating_sub(since) <= PATIENCE {
                    return Offer::Wait;
                }
            }
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
        let limit = self.with_lead(host, self.by_host.get(host));
        if let Some(state) = self.by_host.get_mut(host) {
            state.reserved -= 1;
            self.waiting -= 1;
            state.has_room_again(limit);
        }
        self.drop_if_idle(host);
    }

    /// Begins an attempt for the event of a reserved place, which is recorded together with the event. False: those that
    /// wait go first, or there is no room.
    pub fn begin_in_place(&mut self, host: &Host) -> bool {
        let may_begin = self.may_begin(host);
        let (now, part) = (self.now, (self.share, self.cap));
        let Some(state) = self.by_host.get_mut(host) else { return false };
        if !may_begin || !state.waiting.is_empty() {
            return false;
        }
        state.reserved -= 1;
        state.begin(now, part);
        self.waiting -= 1;
        self.begun += 1;
        true
    }

    /// Begins an attempt for the next event of a line, which is recorded together with the end of the one before it. False:
    /// those that wait go first, or there is no room.
    pub fn begin_next_in_line(&mut self, host: &Host) -> bool {
        let may_begin = self.may_begin(host);
        let (now, part) = (self.now, (self.share, self.cap));
        let state = self.state(host);
        let begins = may_begin && state.waiting.is_empty() && !state.parked;
        if begins {
            state.begin(now, part);
            self.begun += 1;
        }
        self.drop_if_idle(host);
        begins
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

    /// The next entity to be sent, by turns of the hosts, with one attempt more begun for its host; or one that has to wait in
    /// the store, for its host's gate is shut.
    pub fn start_next(&mut self) -> Option<Turn> {
        if self.begun >= self.in_all {
            return None;
        }
        while let Some(host) = self.turns.pop_front() {
            let may_begin = self.may_begin(&host);
            let Some(state) = self.by_host.get_mut(&host) else { continue };
            state.in_turn = false;
            if state.gate == Some(0) {
                let Some((entity, _)) = state.waiting.pop_front() else { continue };
                self.waiting -= 1;
                self.give_turn(&host);
                return Some(Turn { host, entity, begins: false });
            }
            if !may_begin {
                // The host leaves the round; the end of one of its own attempts brings it back, or time.
                self.wait_for_rate(&host);
                continue;
            }
            let Some((entity, _)) = state.waiting.pop_front() else { continue };
            state.begin(self.now, (self.share, self.cap));
            self.begun += 1;
            self.waiting -= 1;
            self.give_turn(&host);
            return Some(Turn { host, entity, begins: true });
        }
        None
    }

    fn may_begin(&self, host: &Host) -> bool {
        let state = self.by_host.get(host);
        let begun = state.map_or(0, |state| state.begun);
        let ceiling = share(self.in_all, self.begun, self.per_host(host, state));
        let has_lead = self.begun < self.in_all / SHARE_WITHOUT_LEAD && begun < self.with_lead(host, state);
        !self.closed && (begun < ceiling || has_lead) && state.is_none_or(|state| self.is_due(state))
    }

    /// What is known of a host.
    fn state(&mut self, host: &Host) -> &mut State {
        if !self.by_host.contains_key(host) {
            let destination = self.destinations.of(host).clone();
            if destination.adaptive {
                self.begin_to_adapt(host);
            }
            let (limit, gate) = (Limit::of(&destination), self.let_through(host));
            self.by_host.insert(host.clone(), State { limit, gate, ..State::default() });
        }
        self.by_host.entry(host.clone()).or_default()
    }

    /// How many attempts one host may have begun, but for those ahead of its limit.
    fn per_host(&self, host: &Host, state: Option<&State>) -> usize {
        let per_host = state.map_or(self.per_host, |state| state.limit.part(self.per_host, self.cap));
        self.gate(host, state).map_or(per_host, |gate| per_host.min(gate))
    }

    /// How many attempts one host may have begun, those ahead of the cap included. There are none of these while the share
    /// is about to become smaller: nothing may be open beyond it then. Nor while its gate opens.
    fn with_lead(&self, host: &Host, state: Option<&State>) -> usize {
        let per_host = self.per_host(host, state);
        match state {
            Some(state) if self.per_host == self.share && state.gate.is_none() => per_host + state.pace.lead(per_host),
            _ => per_host,
        }
    }

    /// Whether the cap allows one more request to a host, for an attempt that is begun. True: it is counted.
    pub fn send(&mut self, host: &Host) -> bool {
        let (share, cap) = (self.share, self.cap);
        let may_send = |state: &State| {
            state.sending < state.limit.part(share, cap) && state.gate.is_none_or(|gate| state.sending < gate)
        };
        let Some(state) = self.by_host.get_mut(host).filter(|state| may_send(state)) else { return false };
        state.sending += 1;
        self.sending += 1;
        true
    }

    /// An attempt has ended: `sent` says whether it was counted by [`Self::send`], `took` how long its request took. True:
    /// newcomers have room again.
    pub fn ended(&mut self, host: &Host, sent: bool, took: Option<Duration>) -> bool {
        let limit = self.with_lead(host, self.by_host.get(host));
        let mut room = false;
        if let Some(state) = self.by_host.get_mut(host) {
            state.begun -= 1;
            self.begun -= 1;
            state.sending -= usize::from(sent);
            self.sending -= usize::from(sent);
            state.standing_since = None;
            if let Some(took) = took {
                state.pace.note(took);
            }
            room = state.has_room_again(limit);
        }
        self.give_turn(host);
        self.drop_if_idle(host);
        room
    }

    /// Takes in an event whatever the ceiling: one that was read back from the store, in a bounded number.
    pub fn enqueue_loaded(&mut self, host: &Host, entity: Entity, now: Duration) {
        self.waiting += 1;
        self.state(host).waiting.push_back((entity, now));
        self.give_turn(host);
    }

    /// Takes entities away that wait no more.
    pub fn forget(&mut self, host: &Host, is_gone: impl Fn(&Entity) -> bool) {
        if let Some(state) = self.by_host.get_mut(host) {
            let before = state.waiting.len();
            state.waiting.retain(|(entity, _)| !is_gone(entity));
            self.waiting -= before - state.waiting.len();
        }
        self.drop_if_idle(host);
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
        let Some(state) = self.by_host.get_mut(host).filter(|state| state.is_idle()) else { return };
        if state.throttle.is_over(self.now) {
            self.by_host.remove(host);
        } else {
            // Its rate is remembered for as long as it matters.
            self.look_again(host);
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
