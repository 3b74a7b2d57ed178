//! What waited goes on: retries that are due, events whose host has room, strays, and what operators decide.

use super::Engine;
use super::command::{Command, Gathered, Ticket, Woken};
use super::input::{Note, Wake};
use super::leases::Grant;
use crate::domain::candidate::{Candidate, Token};
use crate::domain::event::{Entity, Host, Partition};
use crate::domain::operator::Decided;

impl<G: Grant> Engine<G> {
    pub(super) fn wake(&mut self, partition: Partition, token: Token) {
        if let Some(held) = self.leases.hold(partition) {
            self.write(Command::Wake { token, held });
        }
    }

    pub(super) fn overdue(&mut self, partition: Partition, entity: &Entity, token: Token) {
        if self.lanes.head(entity).is_none() {
            self.wake(partition, token);
        }
    }

    pub(super) fn woken(&mut self, woken: Woken) {
        match woken {
            Woken::Due { event: candidate, waited, late } => {
                let (event, attempts) = (candidate.event.clone(), candidate.attempts);
                if self.lanes.woken(candidate) {
                    self.send_head(&event.entity);
                    self.effects.notes.push(Note::Waited { event, attempts, waited, late });
                }
            }
            Woken::Early { token, partition, delay } => self.effects.wakes.push(Wake { partition, token, delay }),
        }
    }

    pub(super) fn look_for_parked(&mut self, hosts: &[Host]) {
        for host in hosts {
            self.hosts.note_parked(host);
            self.unpark_if_wanted(host);
        }
    }

    pub(super) fn unparked(&mut self, host: &Host, events: Vec<Candidate>, more: bool) {
        self.found_probe(host, events.first());
        for candidate in events {
            let entity = candidate.event.entity.clone();
            if self.lanes.woken(candidate.clone()) {
                self.hosts.enqueue_loaded(host, entity, self.now);
            } else {
                self.lose_probe(&candidate);
            }
        }
        self.hosts.loaded(host, more);
        self.unpark_if_wanted(host);
    }

    pub(super) fn gather(&mut self) {
        let held = self.leases.hold_all();
        if !held.is_empty() {
            self.write(Command::Gather { held });
        }
    }

    /// Lines that are at work go on to what was gathered; heads without a lane were parked.
    pub(super) fn gathered(&mut self, gathered: &Gathered) {
        for entity in &gathered.entities {
            self.lanes.goes_on(entity);
        }
        self.look_for_parked(&gathered.hosts);
    }

    /// A decision that is refused was not carried out: its message stays with the broker, for the next owner.
    pub(super) fn operate(&mut self, ticket: Ticket, partition: Partition, decided: Decided) {
        match self.leases.hold(partition) {
            Some(held) => self.write(Command::Operate { ticket, decided, held }),
            None => self.effects.refused.push(ticket),
        }
    }
}
