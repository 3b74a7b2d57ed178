//! A host that is down: step by step.

use std::collections::HashMap;

use super::super::command::Which;
use super::super::hosts::gates::{GateChange, Paused, Standing};
use super::*;
use crate::domain::gate::Change;
use crate::domain::verdict::NoResponse;

fn host() -> Host {
    "host:80".into()
}

fn refused() -> Outcome {
    Outcome::NoResponse(NoResponse::Connect(String::new()))
}

fn end(engine: &mut Engine<Name>, attempt: Attempt<Name>, outcome: Outcome) -> Effects<Name> {
    let Attempt { candidate, held, .. } = attempt;
    let took = Some(Duration::from_millis(1));
    engine
        .handle(Input::Ended(vec![Ended { candidate, held, outcome: Some(outcome), took, destination: None }]), SECOND)
}

fn told(engine: &mut Engine<Name>, told: Standing) -> Effects<Name> {
    engine.handle(Input::Gates { told: Arc::new(told), done: vec![host()] }, SECOND)
}

fn shut() -> Standing {
    Standing { shut: [host()].into(), ..Standing::default() }
}

fn ours(claim: i64) -> Standing {
    Standing { ours: HashMap::from([(host(), claim)]), ..Standing::default() }
}

fn changes(effects: &Effects<Name>) -> Vec<&'static str> {
    let name = |change: &GateChange| match change.change {
        Change::Shut(..) => "shut",
        Change::Claim(_) => "claim",
        Change::Passed => "passed",
        Change::Failed(..) => "failed",
        Change::Released => "released",
        Change::Gone => "gone",
        Change::Bears(_) => "bears",
    };
    effects.gates.iter().map(name).collect()
}

fn unparks(effects: &Effects<Name>) -> Vec<Which> {
    let which = |command: &Command<Name>| match command {
        Command::Unpark(unpark) => Some(unpark.which),
        _ => None,
    };
    effects.commands.iter().filter_map(which).collect()
}

/// Events of these entities arrive and are sent.
fn send(engine: &mut Engine<Name>, entities: &[&str]) -> Vec<Attempt<Name>> {
    let arrivals = arrive(engine, 1, entities);
    record(engine, 1, arrivals).attempts
}

/// An engine whose host has refused six connections.
fn engine_with_a_shut_gate() -> Engine<Name> {
    let mut engine = engine(50);
    let attempts = send(&mut engine, &["a", "b", "c", "d", "e", "f"]);
    for (number, attempt) in attempts.into_iter().enumerate() {
        let effects = end(&mut engine, attempt, refused());
        // The last one was under way when the gate shut.
        assert_eq!(changes(&effects), if number == 4 { vec!["shut"] } else { vec![] });
    }
    engine
}

/// The store has found the event that is to probe the host, and records its attempt.
fn probe(engine: &mut Engine<Name>, id: i64, entity: &str) -> Attempt<Name> {
    let effects = told(engine, ours(id));
    let turn = if id % 2 == 0 { Which::Probe } else { Which::ProbeNewest };
    assert_eq!(unparks(&effects), [turn]);
    let candidate = Candidate { id: EventId(id), attempts: 1, unknown: 0, event: event(entity, 1) };
    let found = Written::Unparked { host: host(), events: vec![candidate], more: true };
    let mut effects = engine.handle(Input::Written(vec![found]), SECOND);
    assert!(unparks(&effects).is_empty(), "no others");
    let Some(Command::Start { mut candidate, held }) = effects.commands.pop() else { panic!("{effects:?}") };
    candidate.attempts += 1;
    let mut effects = engine.handle(Input::Written(vec![Written::Started { candidate, held }]), SECOND);
    let attempt = effects.attempts.pop().expect("it is sent");
    assert!(attempt.probes && effects.attempts.is_empty());
    attempt
}

#[test]
fn a_host_that_fails_gets_nothing_more_and_its_events_wait_in_the_store() {
    let mut engine = engine_with_a_shut_gate();
    let arrivals = arrive(&mut engine, 2, &["g"]);
    assert_eq!(arrivals[0].place, Place::Store);
    assert!(record(&mut engine, 2, arrivals).commands.is_empty(), "nobody reads it now");
    assert_eq!(engine.loads().count(), 0, "nothing is kept of a host without work");
    told(&mut engine, shut());
    assert!(engine.handle(Input::Parked(host()), SECOND).commands.is_empty());
}

#[test]
fn attempts_that_are_recorded_when_the_gate_shuts_are_taken_back() {
    let mut engine = engine(50);
    let waiting = arrive(&mut engine, 1, &["z"]);
    for (ticket, entity) in (2..).zip(["a", "b", "c", "d", "e"]) {
        let arrivals = arrive(&mut engine, ticket, &[entity]);
        let attempt = record(&mut engine, ticket, arrivals).attempts.pop().expect("it is sent");
        end(&mut engine, attempt, refused());
    }
    let effects = record(&mut engine, 1, waiting);
    assert!(effects.attempts.is_empty());
    let [Command::Settle { settlement, .. }] = &effects.commands[..] else { panic!("{:?}", effects.commands) };
    assert_eq!(settlement.outcome, Outcome::NotSent(NotSent::GateShut));
}

#[test]
fn one_event_probes_and_the_host_opens_by_steps() {
    let mut engine = engine_with_a_shut_gate();
    told(&mut engine, shut());
    let attempt = probe(&mut engine, 7, "g");
    assert_eq!(changes(&end(&mut engine, attempt, refused())), ["failed"]);
    told(&mut engine, shut());
    let attempt = probe(&mut engine, 8, "h");
    let effects = end(&mut engine, attempt, answered(200));
    assert_eq!((changes(&effects), unparks(&effects).len()), (vec!["passed"], 1), "what waits is read");
    let none = Written::Unparked { host: host(), events: Vec::new(), more: false };
    engine.handle(Input::Written(vec![none]), SECOND);
    told(&mut engine, Standing { opening: [host()].into(), ..Standing::default() });
    let mut open = Vec::new();
    for (ticket, expected) in (10..).zip([1, 2, 2, 4, 4, 4, 4, 8]) {
        let names: Vec<String> = (0..20).map(|n| format!("{ticket}-{n}")).collect();
        let arrivals = arrive(&mut engine, ticket, &names.iter().map(String::as_str).collect::<Vec<_>>());
        open.extend(record(&mut engine, ticket, arrivals).attempts);
        assert_eq!(open.len(), expected, "requests at a time");
        let effects = end(&mut engine, open.remove(0), answered(200));
        open.extend(started(&mut engine, effects));
    }
}

/// The store has recorded all attempts that were to begin.
fn started(engine: &mut Engine<Name>, effects: Effects<Name>) -> Vec<Attempt<Name>> {
    let mut attempts = effects.attempts;
    let begun = effects.commands.into_iter().filter_map(|command| match command {
        Command::Start { mut candidate, held } => {
            candidate.attempts += 1;
            Some(Written::Started { candidate, held })
        }
        _ => None,
    });
    attempts.extend(engine.handle(Input::Written(begun.collect()), SECOND).attempts);
    attempts
}

#[test]
fn a_claim_without_an_event_is_given_back_and_a_new_claim_is_a_new_probe() {
    let mut engine = engine_with_a_shut_gate();
    assert_eq!(unparks(&told(&mut engine, ours(1))), [Which::ProbeNewest]);
    assert!(unparks(&told(&mut engine, ours(1))).is_empty(), "it is looked for");
    let none = Written::Unparked { host: host(), events: Vec::new(), more: false };
    assert_eq!(changes(&engine.handle(Input::Written(vec![none]), SECOND)), ["released"]);
    assert_eq!(unparks(&told(&mut engine, ours(2))), [Which::Probe]);
}

#[test]
fn what_is_paused_is_not_sent_and_what_is_resumed_is_looked_for() {
    let mut engine = engine(50);
    let paused = Paused { hosts: [host()].into(), ..Paused::default() };
    told(&mut engine, Standing { paused, ..Standing::default() });
    assert_eq!(arrive(&mut engine, 1, &["a"])[0].place, Place::Store);
    assert_eq!(unparks(&told(&mut engine, Standing::default())).len(), 1);
    let none = Written::Unparked { host: host(), events: Vec::new(), more: false };
    engine.handle(Input::Written(vec![none]), SECOND);
    let paused = Paused { entities: ["b".into()].into(), ..Paused::default() };
    told(&mut engine, Standing { paused, ..Standing::default() });
    let places: Vec<Place> = arrive(&mut engine, 2, &["b", "c"]).iter().map(|arrival| arrival.place).collect();
    assert_eq!(places, [Place::Store, Place::Begun]);
}
