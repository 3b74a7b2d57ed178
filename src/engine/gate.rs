//! The gates of hosts: what attempts say of their hosts, and what waits for a gate to open.

use std::time::Duration;

use super::Engine;
use super::command::Which;
use super::hosts::adaptive::Hint;
use super::hosts::gates::{GateChange, Seen, Standing, Verdict};
use super::input::Ended;
use super::leases::Grant;
use crate::domain::candidate::Candidate;
use crate::domain::event::{Entity, Host};
use crate::domain::gate::{Change, Sign};
use crate::domain::verdict::{NotSent, Outcome};

/// What an outcome says of how much its host bears.
fn hint(outcome: &Outcome, sign: Sign) -> Hint {
    match outcome {
        Outcome::Response { status: 429 | 503, .. } => Hint::TooMuch,
        _ if sign == Sign::Well => Hint::Well,
        _ => Hint::Nothing,
    }
}

impl<G: Grant> Engine<G> {
    /// What an attempt's end says of its host.
    pub(super) fn judge_host(&mut self, ended: &Ended<G::Proof>) {
        let Ended { candidate, outcome: Some(outcome), took, .. } = ended else { return };
        let host = &candidate.event.host;
        let destination = ended.destination.as_ref().unwrap_or_else(|| self.rules.destinations.of(host)).clone();
        let failures = candidate.attempts.saturating_sub(candidate.unknown);
        let seen = Seen {
            id: candidate.id,
            failed_before: failures > 1,
            sign: Sign::of(outcome, |status| destination.policy.is_success(status)),
            took: took.unwrap_or(Duration::ZERO),
        };
        if destination.adaptive
            && let Some(bears) = self.hosts.adapt(host, hint(outcome, seen.sign), seen.took)
            // One is on its way: the next cut tells the rest.
            && !self.hosts.has_change(host)
        {
            self.change_gate(host, Change::Bears(bears));
        }
        if destination.policy.pauses(outcome) {
            self.hosts.shut(host);
            return self.change_gate(host, Change::Gone);
        }
        let change = match self.hosts.judge_host(host, seen, &destination.gate) {
            Verdict::Stays => return,
            Verdict::Opens => return self.open(host),
            Verdict::Released => return self.change_gate(host, Change::Released),
            Verdict::Shuts => Change::Shut,
            Verdict::Failed => Change::Failed,
        };
        let asked = outcome.retry_after().min(destination.policy.retry_after_max);
        self.change_gate(host, change(outcome.to_string(), asked));
    }

    fn open(&mut self, host: &Host) {
        self.change_gate(host, Change::Passed);
        self.look_for_parked(std::slice::from_ref(host));
    }

    fn change_gate(&mut self, host: &Host, change: Change) {
        let policy = self.rules.destinations.of(host).gate;
        self.hosts.note_change(host);
        self.effects.gates.push(GateChange { host: host.clone(), change, policy });
    }

    /// What the store says of gates and pauses.
    pub(super) fn follow_gates(&mut self, told: &Standing, done: &[Host]) {
        let (opened, probes) = self.hosts.follow_gates(told, done);
        self.look_for_parked(&opened);
        for (host, claim) in probes {
            self.unpark(&host, if claim % 2 == 0 { Which::Probe } else { Which::ProbeNewest });
        }
        self.room = true;
    }

    /// Of what was read for a host, the first event probes it, if one is to.
    pub(super) fn found_probe(&mut self, host: &Host, first: Option<&Candidate>) {
        if self.hosts.found_probe(host, first.map(|candidate| candidate.id)) == Verdict::Released {
            self.change_gate(host, Change::Released);
        }
    }

    /// An event will not be sent.
    pub(super) fn lose_probe(&mut self, candidate: &Candidate) {
        let host = &candidate.event.host;
        if self.hosts.lose_probe(host, candidate.id) == Verdict::Released {
            self.change_gate(host, Change::Released);
        }
    }

    /// Whether the head of a lane, whose turn it is, has to wait in the store.
    pub(super) fn has_to_wait(&self, host: &Host, entity: &Entity) -> bool {
        self.hosts.are_any_shut()
            && self.lanes.waiting(entity).is_some_and(|head| self.hosts.has_to_wait(host, entity, head.id))
    }

    /// Those that are to be sent: which of them are probes?
    pub(super) fn mark_probes(&mut self) {
        if self.hosts.are_any_shut() {
            for attempt in &mut self.effects.attempts {
                attempt.probes = self.hosts.is_probe(&attempt.candidate.event.host, attempt.candidate.id);
            }
        }
    }

    /// Attempts that were recorded when their host's gate shut are not sent, and cost nothing.
    pub(super) fn withdraw_from_shut(&mut self) {
        if !self.hosts.are_any_shut() || self.begun.is_empty() {
            return;
        }
        let hosts = &self.hosts;
        let stuck = self.begun.take_waiting(|attempt| {
            let event = &attempt.candidate.event;
            hosts.has_to_wait(&event.host, &event.entity, attempt.candidate.id)
        });
        for attempt in stuck {
            self.free(&attempt.candidate.event.host, false, None);
            self.give_up(attempt.candidate, attempt.held, Outcome::NotSent(NotSent::GateShut));
        }
    }
}
