//! The decisions of one engine, one at a time. That all of them together keep the promises is what the simulator shows.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use super::command::{Admitted, Arrival, Place, Ticket};
use super::*;
use crate::domain::admission::Admission;
use crate::domain::backoff::{Backoff, Delays};
use crate::domain::destination::Destination;
use crate::domain::event::{Digest, Event, Target};
use crate::domain::lifecycle::State;
use crate::domain::verdict::{Gone, Policy};
use crate::engine::hosts::{PATIENCE, WAITING_PER_HOST};

mod gates;

/// A lease that is nothing but its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name(Partition, i64);

impl Grant for Name {
    type Proof = Self;

    fn partition(&self) -> Partition {
        self.0
    }

    fn epoch(&self) -> i64 {
        self.1
    }

    fn hold(&self) -> Option<Self> {
        Some(*self)
    }
}

impl Proof for Name {
    fn partition(&self) -> Partition {
        self.0
    }

    fn epoch(&self) -> i64 {
        self.1
    }
}

const LEASE: Name = Name(Partition(0), 1);
const HERE: Partition = Partition(0);

fn engine(share: usize) -> Engine<Name> {
    let backoff = Backoff { initial: SECOND, max: SECOND * 60, factor: 2.0, jitter: 0.0 };
    let policy = Policy {
        max_attempts: 2,
        max_unknown: 3,
        delays: Delays::Growing(backoff),
        retry_after_max: SECOND * 60,
        final_statuses: BTreeSet::new(),
        success_statuses: BTreeSet::new(),
        hold: false,
        gone: Gone::Fail,
    };
    let destinations = Arc::new(Destinations::new(Destination::defaults(policy, SECOND * 5)));
    let mut engine = Engine::new(Rules { destinations, host_cap: 50, seed: 0, most_begun: 100, bodies: 1_000 });
    engine.handle(Input::Cap(Cap::Share(share)), SECOND);
    let told = engine.handle(Input::Leases(vec![LEASE]), SECOND);
    assert!(matches!(told.commands[..], [Command::TakeOver { held: LEASE }]));
    let left = Written::TakenOver { held: LEASE, in_flight: Vec::new(), hosts: Vec::new() };
    engine.handle(Input::Written(vec![left]), SECOND);
    engine
}

const SECOND: Duration = Duration::from_secs(1);

fn event(entity: &str, bytes: usize) -> Arc<Event> {
    Arc::new(Event {
        key: entity.into(),
        entity: entity.into(),
        partition: HERE,
        sequence: None,
        destination: Target::read_back("http://host/").unwrap(),
        host: "host:80".into(),
        content_type: None,
        content_encoding: None,
        headers: HeaderMap::new(),
        traceparent: None,
        trace: None,
        is_sent_back: false,
        ingested_ms: 0,
        tracestate: None,
        properties: Bytes::new(),
        body: vec![b'x'; bytes].into(),
    })
}

fn arrival(entity: &str, bytes: usize) -> Arrival<Name> {
    let digest = Digest([0; 32]);
    Arrival { event: event(entity, bytes), digest, held: LEASE, place: Place::Store, unstorable: None }
}

/// Has events arrive; gives the places of those that are to be recorded.
fn arrive(engine: &mut Engine<Name>, ticket: u64, entities: &[&str]) -> Vec<Arrival<Name>> {
    let arrivals = entities.iter().map(|entity| arrival(entity, 1)).collect();
    let effects = engine.handle(Input::Arrived { ticket: Ticket(ticket), arrivals }, SECOND);
    recorded(effects)
}

fn recorded(effects: Effects<Name>) -> Vec<Arrival<Name>> {
    let admitted = effects.commands.into_iter().filter_map(|command| match command {
        Command::Admit { arrivals, .. } => Some(arrivals),
        _ => None,
    });
    admitted.flatten().collect()
}

/// The store has recorded them, each as the head of its line.
fn record(engine: &mut Engine<Name>, ticket: u64, arrivals: Vec<Arrival<Name>>) -> Effects<Name> {
    let joined = |(number, arrival): (i64, Arrival<Name>)| {
        let admission = Admission::Join { head: true, others_open: false, home: HERE, unseen: false };
        (arrival, Admitted { admission, id: Some(EventId(number)) })
    };
    let admitted = (1..).zip(arrivals).map(joined).collect();
    engine.handle(Input::Written(vec![Written::Admitted { ticket: Ticket(ticket), admitted }]), SECOND)
}

fn answered(status: u16) -> Outcome {
    Outcome::Response { status, retry_after: None, excerpt: String::new() }
}

#[test]
fn a_first_attempt_begins_with_its_events_record_and_is_sent_after_it() {
    let mut engine = engine(1);
    let arrivals = arrive(&mut engine, 1, &["a", "b"]);
    let places: Vec<Place> = arrivals.iter().map(|arrival| arrival.place).collect();
    assert_eq!(places, [Place::Begun, Place::Memory], "the host gets one");
    let effects = record(&mut engine, 1, arrivals);
    assert_eq!(effects.admitted.len(), 1, "the broker may forget them");
    let [Attempt { candidate, held, .. }] = &effects.attempts[..] else { panic!("{:?}", effects.attempts) };
    assert_eq!((candidate.event.entity.as_str(), candidate.attempts), ("a", 1));

    let ended = Ended {
        candidate: candidate.clone(),
        held: *held,
        outcome: Some(answered(204)),
        took: None,
        destination: None,
    };
    let effects = engine.handle(Input::Ended(vec![ended]), SECOND);
    let [Command::Settle { settlement, .. }, Command::Start { candidate, .. }] = &effects.commands[..] else {
        panic!("{:?}", effects.commands)
    };
    assert_eq!(settlement.state(), State::Delivered);
    assert_eq!(candidate.event.entity.as_str(), "b", "the next has its turn");
}

#[test]
fn bodies_beyond_the_memory_wait_in_the_store() {
    let mut engine = engine(1);
    let arrivals = vec![arrival("a", 900), arrival("b", 200), arrival("c", 100)];
    let effects = engine.handle(Input::Arrived { ticket: Ticket(1), arrivals }, SECOND);
    let arrivals = recorded(effects);
    let places: Vec<Place> = arrivals.iter().map(|arrival| arrival.place).collect();
    assert_eq!(places, [Place::Begun, Place::Store, Place::Memory]);
    record(&mut engine, 1, arrivals);
    assert_eq!(engine.lanes.bytes() + engine.arrivals.bytes, 1_000);
}

#[test]
fn arrivals_wait_while_their_hosts_queue_moves_and_go_on_by_themselves() {
    let mut engine = engine(1);
    let entities: Vec<String> = (0..WAITING_PER_HOST + 2).map(|n| n.to_string()).collect();
    let entities: Vec<&str> = entities.iter().map(String::as_str).collect();
    let arrivals = arrive(&mut engine, 1, &entities);
    assert_eq!(arrivals.len(), WAITING_PER_HOST + 1, "one waits");
    let effects = record(&mut engine, 1, arrivals);
    assert!(effects.look_again);
    assert!(recorded(engine.handle(Input::Look, SECOND)).is_empty());
    let late = recorded(engine.handle(Input::Look, SECOND + PATIENCE * 2));
    assert_eq!(late.len(), 1, "the host is slow: it waits in the store");
    assert_eq!(late[0].place, Place::Store);
}

#[test]
fn what_is_lost_with_a_lease_gives_back_what_it_had() {
    let mut engine = engine(1);
    let arrivals = arrive(&mut engine, 1, &["a", "b"]);
    let lost = Written::NotAdmitted { ticket: Ticket(1), arrivals };
    let effects = engine.handle(Input::Written(vec![lost]), SECOND);
    assert_eq!(effects.refused, [Ticket(1)]);
    assert_eq!((engine.unsent(), engine.arrivals.bytes), (0, 0));
    let arrivals = arrive(&mut engine, 2, &["a"]);
    let effects = record(&mut engine, 2, arrivals);
    let attempt = effects.attempts.into_iter().next().expect("it begins");
    engine.handle(Input::Leases(Vec::new()), SECOND);
    let Attempt { candidate, held, .. } = attempt;
    let effects = engine
        .handle(Input::Ended(vec![Ended { candidate, held, outcome: None, took: None, destination: None }]), SECOND);
    assert!(effects.commands.is_empty(), "the next owner settles it");
    assert_eq!(engine.loads().count(), 0, "nothing is kept of a host without work");
}

#[test]
fn what_was_recorded_under_an_epoch_that_is_over_is_left_to_its_next_owner() {
    let mut engine = engine(1);
    let arrivals = arrive(&mut engine, 1, &["a"]);
    engine.handle(Input::Leases(vec![Name(HERE, 3)]), SECOND);
    let effects = record(&mut engine, 1, arrivals);
    assert!(effects.attempts.is_empty() && effects.commands.is_empty());
    assert!(engine.lanes.is_empty() && engine.loads().count() == 0);
}

#[test]
fn a_drain_sends_what_was_recorded_and_writes_nothing_but_settlements() {
    let mut engine = engine(1);
    let arrivals = arrive(&mut engine, 1, &["a"]);
    let unsent = vec![Command::Admit { ticket: Ticket(2), arrivals: vec![arrival("b", 1)] }];
    // As if it had found its place.
    engine.handle(Input::Arrived { ticket: Ticket(3), arrivals: vec![arrival("c", 1)] }, SECOND);
    let effects = engine.handle(Input::Stop { unsent }, SECOND);
    assert_eq!(effects.refused, [Ticket(2)]);
    let effects = record(&mut engine, 1, arrivals);
    let attempt = effects.attempts.into_iter().next().expect("what is recorded is sent");
    let Attempt { candidate, held, .. } = attempt;
    let ended = Ended { candidate, held, outcome: Some(answered(500)), took: None, destination: None };
    let effects = engine.handle(Input::Ended(vec![ended]), SECOND);
    assert!(matches!(effects.commands[..], [Command::Settle { .. }]));
    assert_eq!(engine.unsent(), 0);
}

#[test]
fn an_attempt_that_a_former_owner_left_is_settled_as_unknown() {
    let mut engine = engine(1);
    engine.handle(Input::Leases(vec![Name(HERE, 2)]), SECOND);
    let left = Candidate { id: EventId(7), attempts: 1, unknown: 0, event: event("a", 1) };
    let taken_over = Written::TakenOver { held: Name(HERE, 2), in_flight: vec![left], hosts: Vec::new() };
    let effects = engine.handle(Input::Written(vec![taken_over]), SECOND);
    let [Command::Settle { settlement, .. }] = &effects.commands[..] else { panic!("{:?}", effects.commands) };
    assert_eq!((&settlement.outcome, settlement.state()), (&Outcome::Unknown, State::RetryWait));
}
