//! Arrivals are recorded: heads of lines are sent or wait for their host, the others wait behind them.

use std::sync::Arc;

use super::Engine;
use super::command::{Admitted, Arrival, Place, Ticket};
use super::input::Attempt;
use super::leases::Grant;
use crate::domain::admission::Admission;
use crate::domain::candidate::Candidate;
use crate::domain::verdict::{NotSent, Outcome};

impl<G: Grant> Engine<G> {
    pub(super) fn admitted(&mut self, ticket: Ticket, admitted: Vec<(Arrival<G::Proof>, Admitted)>) {
        let mut answer = Vec::with_capacity(admitted.len());
        for (arrival, outcome) in admitted {
            let bytes = self.forget_bytes(&arrival);
            match joined(&arrival, &outcome) {
                // Whoever has the partition now finds it in the store.
                Some(joined) if self.leases.is_current(&arrival.held) => self.joined(joined, arrival, bytes),
                _ => self.release(&arrival.event.host, arrival.place),
            }
            answer.push(outcome);
        }
        self.effects.admitted.push((ticket, answer));
    }

    pub(super) fn not_admitted(&mut self, ticket: Ticket, arrivals: Vec<Arrival<G::Proof>>) {
        for arrival in arrivals {
            self.forget_bytes(&arrival);
            self.release(&arrival.event.host, arrival.place);
        }
        self.effects.refused.push(ticket);
    }

    /// Bytes that an arrival has in memory: they are its lane's from now on, if it gets one.
    fn forget_bytes(&mut self, arrival: &Arrival<G::Proof>) -> usize {
        let bytes = if arrival.place == Place::Store { 0 } else { arrival.event.body.len() };
        self.arrivals.bytes -= bytes;
        bytes
    }

    fn joined(&mut self, joined: Joined, arrival: Arrival<G::Proof>, bytes: usize) {
        let Joined { candidate, others_open, stands } = joined;
        let (host, entity) = (candidate.event.host.clone(), candidate.event.entity.clone());
        match stands {
            Stands::Begun => return self.joined_and_begun(candidate, arrival.held, others_open, bytes),
            // Its line is another worker's, which finds a note.
            _ if !self.leases.has(candidate.event.partition) => return self.release(&host, arrival.place),
            // Behind what only the store knows of, it has to be read with that.
            Stands::Behind { unseen: true } => {
                self.lanes.goes_on(&entity);
                return self.release(&host, arrival.place);
            }
            Stands::Behind { unseen: false } => {
                self.lanes.follower_admitted(candidate);
                return self.release(&host, arrival.place);
            }
            Stands::First => {}
        }
        if arrival.place == Place::Store {
            self.hosts.note_parked(&host);
            self.unpark_if_wanted(&host);
        } else if self.lanes.head_admitted(candidate, others_open, bytes) {
            match arrival.place {
                Place::Memory => self.hosts.enqueue(&host, entity, self.now),
                // It begins otherwise than was thought: as a head of another partition.
                Place::Begun => {
                    self.hosts.enqueue_loaded(&host, entity, self.now);
                    self.free(&host, false, None);
                }
                Place::Store => {}
            }
        } else {
            self.release(&host, arrival.place);
        }
    }

    /// The head of a line, with its first attempt.
    fn joined_and_begun(&mut self, candidate: Candidate, held: G::Proof, others_open: bool, bytes: usize) {
        self.take_in_hand(&candidate, &held);
        if self.lanes.head_begun(candidate.clone(), others_open, bytes) {
            self.begun.push(Attempt { candidate, held, probes: false });
        } else {
            self.free(&candidate.event.host, false, None);
            self.give_up(candidate, held, Outcome::NotSent(NotSent::NotAllowed));
        }
    }
}

/// An arrival that has joined its line.
struct Joined {
    candidate: Candidate,
    /// The entity had other open events.
    others_open: bool,
    stands: Stands,
}

/// Where it stands in its line.
enum Stands {
    /// Nothing of its entity has to become final before it, and its first attempt is recorded with it.
    Begun,
    /// Nothing of its entity has to become final before it.
    First,
    /// Others go first: also ones that we have not seen, perhaps.
    Behind { unseen: bool },
}

fn joined<P>(arrival: &Arrival<P>, outcome: &Admitted) -> Option<Joined> {
    let Admission::Join { head, others_open, home, unseen } = outcome.admission else { return None };
    let id = outcome.id?;
    let begins = outcome.begins(arrival);
    let mut event = arrival.event.clone();
    if event.partition != home {
        // Its line is another partition's. That may be ours, too; if it is not, there is no lane for it here.
        Arc::make_mut(&mut event).partition = home;
    }
    let candidate = Candidate { id, attempts: begins.into(), unknown: 0, event };
    let stands = match (begins, head) {
        (true, _) => Stands::Begun,
        (false, true) => Stands::First,
        (false, false) => Stands::Behind { unseen },
    };
    Some(Joined { candidate, others_open, stands })
}
