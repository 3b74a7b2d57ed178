//! The end of an attempt: it is judged, recorded together with what comes next in its line, and then announced.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::Engine;
use super::command::{Command, Front, Settlement};
use super::input::{DeadLettered, Ended, Note, Wake};
use super::lanes::{After, Then};
use super::leases::Grant;
use crate::domain::candidate::{Candidate, Token};
use crate::domain::event::{Entity, Partition};
use crate::domain::verdict::{Attempts, Decision};

impl<G: Grant> Engine<G> {
    pub(super) fn ended(&mut self, ended: Ended<G::Proof>) {
        self.judge_host(&ended);
        self.free(&ended.candidate.event.host, true, ended.took);
        self.settle(ended);
    }

    /// Has an attempt's end recorded, together with what comes next in its line.
    pub(super) fn settle(&mut self, ended: Ended<G::Proof>) {
        let Some(settlement) = self.judge(ended) else { return };
        let goes_on = settlement.frees_the_line() && !self.draining;
        let then = if goes_on { self.next(&settlement) } else { Then::Nothing };
        self.write(Command::Settle { settlement, then });
    }

    /// What is recorded of an attempt that has ended: nothing, if another owner settles it.
    fn judge(&self, ended: Ended<G::Proof>) -> Option<Settlement<G::Proof>> {
        let Ended { candidate, held, outcome, took, destination } = ended;
        let outcome = outcome?;
        let mut seed = DefaultHasher::new();
        (self.rules.seed, candidate.id, candidate.attempts).hash(&mut seed);
        let attempts = Attempts { begun: candidate.attempts, unknown: candidate.unknown };
        let destination = destination.as_ref().unwrap_or_else(|| self.rules.destinations.of(&candidate.event.host));
        let decision = destination.policy.judge(attempts, &outcome, seed.finish());
        Some(Settlement { candidate, held, outcome, decision, took })
    }

    fn next(&mut self, settlement: &Settlement<G::Proof>) -> Then {
        let Candidate { id, event, .. } = &settlement.candidate;
        let then = self.lanes.next(&event.entity, *id);
        match &then {
            // It waits for its turn.
            Then::Begin(next) if self.hosts.has_to_wait(&next.event.host, &next.event.entity, next.id) => Then::Nothing,
            Then::Begin(next) if !self.hosts.begin_next_in_line(&next.event.host) => Then::Nothing,
            _ => then,
        }
    }

    pub(super) fn settled(&mut self, settlement: Settlement<G::Proof>, then: &Then) {
        self.in_hand.remove(&settlement.candidate.id);
        self.announce(&settlement);
        let (entity, id) = (&settlement.candidate.event.entity, settlement.candidate.id);
        if !settlement.frees_the_line() {
            self.leave(entity, settlement.candidate.event.partition);
            return;
        }
        match self.lanes.finished(entity, id) {
            After::Send if matches!(then, Then::Begin(_)) => drop(self.lanes.start(entity)),
            After::Send => self.send_head(entity),
            After::Load if matches!(then, Then::Read) => {}
            After::Load => {
                let (entity, held) = (entity.clone(), settlement.held);
                self.write(Command::ReadFront { entity, held });
            }
            After::Gone => {}
        }
    }

    fn announce(&mut self, settlement: &Settlement<G::Proof>) {
        let candidate = &settlement.candidate;
        let (partition, ingested_ms) = (candidate.event.partition, candidate.event.ingested_ms);
        match settlement.decision {
            Decision::Deliver => self.effects.notes.push(Note::Delivered { ingested_ms }),
            Decision::Retry(delay) => {
                self.effects.notes.push(Note::Retried);
                self.effects.wakes.push(Wake { partition, token: candidate.token(), delay });
            }
            Decision::Withdraw(delay) => {
                let token = Token { id: candidate.id, attempts: candidate.attempts.saturating_sub(1) };
                self.effects.wakes.push(Wake { partition, token, delay });
            }
            Decision::Fail(_) | Decision::Hold(_) => {
                let letter = DeadLettered { id: candidate.id, held: settlement.held.clone() };
                self.effects.dead_letters.push(letter);
            }
        }
    }

    /// The head of a lane waits for something that is not in memory.
    pub(super) fn leave(&mut self, entity: &Entity, partition: Partition) {
        if self.lanes.leave(entity) {
            self.read_front(entity, partition);
        }
    }

    fn read_front(&mut self, entity: &Entity, partition: Partition) {
        match self.leases.hold(partition) {
            Some(held) => self.write(Command::ReadFront { entity: entity.clone(), held }),
            None => self.lanes.forget(entity),
        }
    }

    /// The store has an event otherwise than its lane: the line is read anew.
    pub(super) fn not_started(&mut self, candidate: &Candidate) {
        let entity = &candidate.event.entity;
        if !self.lanes.not_started(entity, candidate.id) {
            return;
        }
        self.read_front(entity, candidate.event.partition);
    }

    pub(super) fn front(&mut self, front: Front) {
        if self.lanes.loaded(&front.entity, front.events, front.more) {
            self.send_head(&front.entity);
        }
    }
}
