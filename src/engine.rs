//! The engine: the one place where it is decided what happens next to an event.
//!
//! [`Engine::handle`] takes what has happened and the time, and gives what is to be done about it, as data. It knows no
//! channel, no clock, no server and no lock: its shell, `dispatch`, receives, calls it, and carries out. The same engine
//! runs in the simulator.
//!
//! | part | what it decides |
//! |---|---|
//! | [`arrivals`] | which arrivals are recorded now, and where they wait for their host |
//! | [`lanes`] | of each entity at work, who is sent and who is next |
//! | [`hosts`] | how many requests a host gets, and whose turn it is |
//! | [`gate`] | a host that is down gets none, and is probed |
//! | [`leases`] | what is ours, and what a former owner left |
//! | [`wakes`] | what is due, parked or overdue goes on |
//! | [`audit`] | open events that nobody has in hand are taken up |
//! | [`drain`] | nothing new begins, and what was recorded is settled |
//!
//! Beside it stands [`membership`]: a worker's place among the others.

pub mod arrivals;
mod audit;
pub mod begun;
pub mod command;
mod drain;
mod gate;
pub mod hosts;
pub mod input;
pub mod lanes;
pub mod leases;
pub mod membership;
mod recorded;
mod settle;
mod wakes;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use self::arrivals::Arrivals;
use self::begun::Begun;
use self::command::{Command, Unpark, Which, Written};
use self::hosts::{Hosts, Turn};
use self::input::{Attempt, Cap, Effects, Ended, Input, Note};
use self::lanes::Lanes;
use self::leases::{Grant, Leases, Proof};
use crate::domain::candidate::Candidate;
use crate::domain::destination::Destinations;
use crate::domain::event::{Entity, EventId, Host, Partition};
use crate::domain::verdict::{NotSent, Outcome};

/// The settings of an engine.
#[derive(Clone, Debug)]
pub struct Rules {
    /// What holds for receivers.
    pub destinations: Arc<Destinations>,
    /// The cap on requests at a time to one host, as this worker has it.
    pub host_cap: usize,
    /// Makes every worker's jitter its own.
    pub seed: u64,
    /// Attempts that may be begun over all hosts.
    pub most_begun: usize,
    /// Bytes of the bodies of events that wait in memory for their host.
    pub bodies: usize,
}

/// What a worker knows of its events, but for what is in the store. `G` is a lease.
pub struct Engine<G: Grant> {
    rules: Rules,
    lanes: Lanes,
    hosts: Hosts,
    leases: Leases<G>,
    arrivals: Arrivals<G::Proof>,
    /// Attempts that are recorded, until their end is: of each event, its partition and the number of the attempt.
    in_hand: HashMap<EventId, (Partition, u16)>,
    /// Events that are about to be parked, and how often: bounded by the commands that are on their way.
    parking: HashMap<EventId, usize>,
    /// Attempts that are recorded, and wait until their host may have one more request.
    begun: Begun<G::Proof>,
    /// Newcomers that wait may look again.
    room: bool,
    /// Nothing new begins any more.
    draining: bool,
    now: Duration,
    effects: Effects<G::Proof>,
}

impl<G: Grant> Engine<G> {
    /// An engine without leases, and without a share of the cap.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            hosts: Hosts::new(rules.host_cap, rules.most_begun, rules.destinations.clone()),
            rules,
            lanes: Lanes::default(),
            leases: Leases::default(),
            arrivals: Arrivals::default(),
            in_hand: HashMap::new(),
            parking: HashMap::new(),
            begun: Begun::default(),
            room: false,
            draining: false,
            now: Duration::ZERO,
            effects: Effects::default(),
        }
    }

    /// Decides what is to be done about what has happened. `now` is the time since any fixed moment, by a clock that nobody
    /// sets.
    pub fn handle(&mut self, input: Input<G>, now: Duration) -> Effects<G::Proof> {
        self.now = now;
        self.hosts.at(now);
        match input {
            Input::Arrived { ticket, arrivals } => self.arrived(ticket, arrivals),
            Input::Written(results) => results.into_iter().for_each(|result| self.written(result)),
            Input::Ended(ends) => ends.into_iter().for_each(|end| self.ended(end)),
            Input::Leases(owned) => self.follow_leases(owned),
            Input::Cap(cap) => self.set_cap(cap),
            Input::Destinations(destinations) => self.follow_settings(destinations),
            Input::Due(partition, token) => self.wake(partition, token),
            Input::Overdue(partition, entity, token) => self.overdue(partition, &entity, token),
            Input::Parked(host) => self.look_for_parked(&[host]),
            Input::Gates { told, done } => self.follow_gates(&told, &done),
            Input::Strays => self.gather(),
            Input::Suspects(suspects) => self.look_closer(suspects),
            Input::Operate(ticket, partition, decided) => self.operate(ticket, partition, decided),
            Input::Stop { unsent } => self.stop(unsent),
            Input::Look => self.room = true,
        }
        self.admit_waiting();
        self.start_attempts();
        self.send_begun();
        self.effects.look_again = self.arrivals.are_waiting() || self.hosts.are_throttled();
        std::mem::take(&mut self.effects)
    }

    /// Of each host, the requests that are open, and the events in memory that wait for their turn.
    pub fn loads(&self) -> impl Iterator<Item = (&Host, usize, usize)> {
        self.hosts.loads()
    }

    /// The most attempts that any one host has begun.
    #[must_use]
    pub fn most_begun(&self) -> usize {
        self.hosts.most_begun()
    }

    /// Entries of destinations whose limit is less than one request for this worker's share of the cap: it has one all the same.
    pub fn crowded(&self) -> impl Iterator<Item = &str> {
        self.hosts.crowded()
    }

    /// Attempts that are begun, and not sent yet.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.hosts.unsent()
    }

    fn written(&mut self, result: Written<G::Proof>) {
        match result {
            Written::Admitted { ticket, admitted } => self.admitted(ticket, admitted),
            Written::NotAdmitted { ticket, arrivals } => self.not_admitted(ticket, arrivals),
            Written::Started { candidate, held } => self.started(candidate, held),
            Written::NotStarted(candidate) => {
                self.free(&candidate.event.host, false, None);
                self.lose_probe(&candidate);
                self.not_started(&candidate);
            }
            Written::Settled { settlement, then } => self.settled(settlement, &then),
            Written::NotSettled(candidate) => {
                self.in_hand.remove(&candidate.id);
                self.not_started(&candidate);
            }
            Written::Parked(id) => self.parked(id),
            Written::Front(front) => self.front(front),
            Written::Woken(woken) => self.woken(woken),
            Written::Unparked { host, events, more } => self.unparked(&host, events, more),
            Written::Operated(ticket) => self.effects.operated.push(ticket),
            Written::NotOperated(ticket) => self.effects.refused.push(ticket),
            Written::Gathered(gathered) => self.gathered(&gathered),
            Written::Audited(confirmed) => self.audited(confirmed),
            Written::TakenOver { held, in_flight, hosts } => self.taken_over(&held, in_flight, &hosts),
        }
    }

    fn started(&mut self, candidate: Candidate, held: G::Proof) {
        self.take_in_hand(&candidate, &held);
        if self.leases.is_current(&held) {
            self.begun.push(Attempt { candidate, held, probes: false });
        } else {
            // Whoever has the partition now settles it.
            self.free(&candidate.event.host, false, None);
        }
    }

    fn set_cap(&mut self, cap: Cap) {
        match cap {
            Cap::Share(share) => self.hosts.set_share(share),
            Cap::Begin(most) => self.hosts.set_per_host(most),
        }
        self.room = true;
    }

    fn follow_settings(&mut self, destinations: Arc<Destinations>) {
        self.hosts.follow(&destinations);
        self.rules.destinations = destinations;
        self.room = true;
    }

    fn take_in_hand(&mut self, candidate: &Candidate, held: &G::Proof) {
        if self.leases.is_current(held) {
            self.in_hand.insert(candidate.id, (held.partition(), candidate.attempts));
        }
    }

    /// An attempt that had begun is over, or never was.
    fn free(&mut self, host: &Host, sent: bool, took: Option<Duration>) {
        self.room |= self.hosts.ended(host, sent, took);
    }

    fn start_attempts(&mut self) {
        while let Some(Turn { host, entity, begins }) = self.hosts.start_next() {
            self.room = true;
            self.unpark_if_wanted(&host);
            let begins_now = begins && !self.has_to_wait(&host, &entity);
            if !begins_now {
                self.park_head(&entity);
            }
            let started = begins_now && self.start(&entity);
            if begins && !started {
                self.free(&host, false, None);
            }
        }
    }

    fn start(&mut self, entity: &Entity) -> bool {
        let Some(candidate) = self.lanes.start(entity) else { return false };
        let Some(held) = self.leases.hold(candidate.event.partition) else {
            self.lanes.forget(entity);
            return false;
        };
        self.write(Command::Start { candidate, held });
        true
    }

    /// Sends what the cap allows. What can't be sent for want of any share is given up.
    fn send_begun(&mut self) {
        self.withdraw_from_shut();
        self.begun.take_ready(&mut self.hosts, &mut self.effects.attempts);
        self.mark_probes();
        if !self.begun.is_empty() && !self.hosts.has_share() {
            for Attempt { candidate, held, .. } in self.begun.take_all() {
                self.free(&candidate.event.host, false, None);
                self.give_up(candidate, held, Outcome::NotSent(NotSent::NotAllowed));
            }
        }
    }

    /// For an attempt that is recorded and not sent by us: perhaps by a former owner, or not at all.
    fn give_up(&mut self, candidate: Candidate, held: G::Proof, outcome: Outcome) {
        if self.draining && outcome == Outcome::Unknown {
            // The next owner finds it in flight, as we did.
            return;
        }
        self.effects.notes.push(Note::GivenUp { host: candidate.event.host.clone(), outcome: outcome.clone() });
        self.settle(Ended { candidate, held, outcome: Some(outcome), took: None, destination: None });
    }

    /// The head of a lane waits for its host: in memory, or in the store if the host is slow.
    fn send_head(&mut self, entity: &Entity) {
        let Some(head) = self.lanes.head(entity) else { return };
        let (id, host) = (head.id, head.event.host.clone());
        let has_to_wait = self.hosts.has_to_wait(&host, entity, id);
        if has_to_wait || !self.hosts.enqueue_next_in_line(&host, entity.clone(), self.now) {
            self.park_head(entity);
        }
    }

    /// The head of a lane waits for its host in the store, and no longer in memory. One that has begun does not wait.
    fn park_head(&mut self, entity: &Entity) {
        let Some(head) = self.lanes.waiting(entity) else { return };
        let (id, partition) = (head.id, head.event.partition);
        self.leave(entity, partition);
        if let Some(held) = self.leases.hold(partition) {
            self.write(Command::Park { id, held });
        }
    }

    fn unpark(&mut self, host: &Host, which: Which) {
        let (host, but, held) = (host.clone(), self.hosts.paused_entities(), self.leases.hold_all());
        self.write(Command::Unpark(Unpark { host, which, but, held }));
    }

    fn unpark_if_wanted(&mut self, host: &Host) {
        if let Some(limit) = self.hosts.wants_load(host) {
            self.unpark(host, Which::First(limit));
        }
    }
}

#[cfg(test)]
mod tests;
