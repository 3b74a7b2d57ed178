//! Gates and the queues of hosts: a host whose gate is shut gets nothing, by the mechanism that a full one gets nothing by.

use std::time::Duration;

use super::adaptive::{Adaptive, Answer, Hint};
use super::gates::{Place, Seen, Standing, Verdict};
use super::{Hosts, State};
use crate::domain::event::{Entity, EventId, Host};
use crate::domain::gate::{GatePolicy, Sign};

/// The most hosts whose limit finds itself; others have theirs.
const MOST_ADAPTIVE: usize = 4_096;
/// A limit that was not used for so long is forgotten, where there are too many.
const FORGOTTEN: Duration = Duration::from_mins(10);

impl Hosts {
    /// What the store says of gates and pauses; `done` are the hosts of changes that it has recorded, or could not. Gives the
    /// hosts that get requests again, and those that this worker may probe, by which claim.
    pub fn follow_gates(&mut self, told: &Standing, done: &[Host]) -> (Vec<Host>, Vec<(Host, i64)>) {
        let follows = self.gates.follow(told, done);
        for (host, (most, record)) in &told.bear {
            if let Some((adaptive, heeded)) = self.adaptive.get_mut(host).filter(|(_, heeded)| heeded < record) {
                adaptive.heed(*most, self.now);
                *heeded = *record;
            }
        }
        self.heed_gates();
        follows
    }

    /// Of all hosts, what their gates let through is another.
    pub(super) fn heed_gates(&mut self) {
        let hosts: Vec<Host> = self.by_host.keys().cloned().collect();
        for host in hosts {
            let gate = self.let_through(&host);
            if let Some(state) = self.by_host.get_mut(&host) {
                state.gate = gate;
                // What waits behind a shut gate is looked for when that opens.
                state.parked &= gate != Some(0);
            }
            self.drop_if_idle(&host);
        }
        self.give_all_turns();
    }

    /// What a host's gate lets through from this worker, and what of it the host is found to bear.
    pub(super) fn let_through(&self, host: &Host) -> Option<usize> {
        let bears = self.adaptive.get(host).map(|(adaptive, _)| {
            let part = adaptive.limit() * self.share / self.cap.max(1);
            part.max(usize::from(self.share > 0))
        });
        match (self.gates.limit(host), bears) {
            (Some(gate), Some(bears)) => Some(gate.min(bears)),
            (gate, bears) => gate.or(bears.filter(|bears| *bears > 0)),
        }
    }

    /// A host's limit finds itself from now on. Of too many hosts, those that were not used for longest are forgotten.
    pub(super) fn begin_to_adapt(&mut self, host: &Host) {
        if self.adaptive.len() >= MOST_ADAPTIVE {
            let (now, by_host) = (self.now, &self.by_host);
            self.adaptive.retain(|host, (adaptive, _)| {
                by_host.contains_key(host) || now.saturating_sub(adaptive.used) < FORGOTTEN
            });
        }
        if self.adaptive.len() < MOST_ADAPTIVE {
            self.adaptive.entry(host.clone()).or_insert_with(|| (Adaptive::new(self.now), 0));
        }
    }

    /// An attempt has ended: what that says of how much its host bears. Gives the limit, over all workers, if it was cut.
    pub fn adapt(&mut self, host: &Host, hint: Hint, took: Duration) -> Option<usize> {
        let (adaptive, _) = self.adaptive.get_mut(host)?;
        let state = self.by_host.get(host)?;
        let cap = state.limit.all(self.cap);
        let in_use = state.gate.is_none_or(|gate| state.sending >= gate);
        let before = adaptive.limit();
        let cut = adaptive.note(Answer { hint, took, in_use, now: self.now }, cap);
        if adaptive.limit() != before {
            self.heed_gate(host);
        }
        cut
    }

    /// An attempt has ended: what that says of its host.
    pub fn judge_host(&mut self, host: &Host, seen: Seen, policy: &GatePolicy) -> Verdict {
        let (now, share, cap) = (self.now, self.share, self.cap);
        let state = self.by_host.get_mut(host);
        let (last_well, full, had_gate) = state.as_ref().map_or_else(Default::default, |state| {
            (state.last_well, state.limit.part(share, cap), state.gate.is_some())
        });
        if let (Some(state), Sign::Well) = (state, seen.sign) {
            state.last_well = now;
        }
        let verdict = self.gates.ended(host, seen, policy, Place { now, last_well, full });
        if had_gate || self.gates.are_any() {
            self.heed_gate(host);
        }
        verdict
    }

    /// A host gets nothing more, until the store says otherwise.
    pub fn shut(&mut self, host: &Host) {
        self.gates.shut(host);
        self.heed_gate(host);
    }

    /// The event that probes a host was found, or there is none.
    pub fn found_probe(&mut self, host: &Host, id: Option<EventId>) -> Verdict {
        let verdict = self.gates.found_probe(host, id);
        self.heed_gate(host);
        verdict
    }

    /// An event will not be sent: was it to probe its host?
    pub fn lose_probe(&mut self, host: &Host, id: EventId) -> Verdict {
        let verdict = self.gates.lose_probe(host, id);
        self.heed_gate(host);
        verdict
    }

    /// Whether an event of this entity, the first of its line, may not be sent now, and has to wait in the store.
    #[must_use]
    pub fn has_to_wait(&self, host: &Host, entity: &Entity, id: EventId) -> bool {
        self.gates.is_paused(entity) || (self.gates.is_shut(host) && !self.gates.probes(host, id))
    }

    /// Whether an event is the one that probes its host.
    #[must_use]
    pub fn is_probe(&self, host: &Host, id: EventId) -> bool {
        self.gates.probes(host, id)
    }

    /// Whether an operator has paused an entity.
    #[must_use]
    pub fn is_paused(&self, entity: &Entity) -> bool {
        self.gates.is_paused(entity)
    }

    /// The entities that are paused.
    #[must_use]
    pub fn paused_entities(&self) -> Vec<Entity> {
        self.gates.paused_entities()
    }

    /// Whether any gate is not open, or anything paused.
    #[must_use]
    pub fn are_any_shut(&self) -> bool {
        self.gates.are_any()
    }

    /// Whether a change of a host's gate is on its way to the store.
    #[must_use]
    pub fn has_change(&self, host: &Host) -> bool {
        self.gates.has_change(host)
    }

    /// A change of a host's gate is on its way to the store.
    pub fn note_change(&mut self, host: &Host) {
        self.gates.note_change(host);
    }

    fn heed_gate(&mut self, host: &Host) {
        let gate = self.let_through(host);
        let Some(state) = self.by_host.get_mut(host).filter(|state| state.gate != gate) else { return };
        state.gate = gate;
        state.parked &= gate != Some(0);
        self.give_turn(host);
        self.drop_if_idle(host);
    }

    /// What a host's gate lets through.
    pub(super) fn gate(&self, host: &Host, state: Option<&State>) -> Option<usize> {
        state.map_or_else(|| self.let_through(host), |state| state.gate)
    }
}
