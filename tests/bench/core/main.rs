//! What the rules cost by themselves, without servers: `cargo bench --bench core`.

use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion};
use onceward::domain::admission::{FirstSequence, Line, Newcomer, admit};
use onceward::domain::backoff::{Backoff, Delays};
use onceward::domain::candidate::Candidate;
use onceward::domain::contract::{Field, Message, Terms, read};
use onceward::domain::destination::{Destination, Destinations};
use onceward::domain::event::{Digest, Entity, Event, EventId, Host, Partition, Sequence};
use onceward::domain::lease;
use onceward::domain::lifecycle::{Change, End, State};
use onceward::domain::shares::{Owner, Peer, plan};
use onceward::domain::verdict::{Attempts, Gone, Outcome, Policy};
use onceward::engine::hosts::{Hosts, Offer, Turn};
use onceward::engine::lanes::Lanes;

fn terms() -> Terms {
    Terms { body_limit: 1 << 20, ..Terms::default() }
}

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .configure_from_args();
    contract(&mut criterion);
    admission(&mut criterion);
    lanes(&mut criterion);
    hosts(&mut criterion);
    outcomes(&mut criterion);
    ownership(&mut criterion);
    criterion.final_summary();
}

/// A message as most producers send it: 1 KiB, with headers of its own and a trace.
fn message(entity: u32) -> Message {
    let header = |name: &str, text: &str| (name.to_owned(), Field::Text(text.into()));
    Message {
        routing_key: format!("entity-{entity}"),
        message_id: Some("0191e7c6-rename-42".into()),
        content_type: Some("application/json".into()),
        content_encoding: None,
        headers: vec![
            header("destination", "https://example.com:8443/hooks/renamed"),
            header("http-x-tenant", "ada"),
            header("http-authorization", "Bearer 0123456789abcdef"),
            header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("sequence".into(), Field::Integer(42)),
        ],
        properties: Bytes::from_static(&[0; 200]),
        body: Bytes::from_static(&[b'x'; 1_024]),
    }
}

fn event(entity: u32) -> Event {
    let message = Message { headers: message(entity).headers[..1].to_vec(), ..message(entity) };
    read(message, Partition(0), &terms()).expect("it keeps the contract")
}

fn contract(criterion: &mut Criterion) {
    criterion.bench_function("contract: read a message of 1 KiB", |bencher| {
        let terms = terms();
        let read = |message| read(message, Partition(7), &terms);
        bencher.iter_batched(|| message(42), read, BatchSize::SmallInput);
    });
    let event = event(42);
    criterion.bench_function("event: digest of 1 KiB", |bencher| bencher.iter(|| black_box(&event).digest()));
}

fn admission(criterion: &mut Criterion) {
    let digest = Digest([7; 32]);
    for (name, numbered) in [("without numbers", false), ("with numbers", true)] {
        criterion.bench_function(&format!("admission: 100 events of an entity {name}"), |bencher| {
            bencher.iter_batched_ref(
                Line::default,
                |line| {
                    for number in 1..=100 {
                        let sequence = numbered.then_some(Sequence(number));
                        let newcomer = Newcomer { sequence, digest, came_by: Partition(3), is_sent_back: false };
                        black_box(admit(line, None, newcomer, FirstSequence::One));
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
}

/// Each entity's event is admitted, started and finished, with others behind it.
fn lanes(criterion: &mut Criterion) {
    for entities in [1, 1_000] {
        let events: Vec<_> = (0..entities).map(|entity| Arc::new(event(entity))).collect();
        let name = format!("lanes: 2 events of each of {entities} entities, from admission to end");
        criterion.bench_function(&name, |bencher| {
            bencher.iter_batched_ref(Lanes::default, |lanes| cycle(lanes, &events), BatchSize::SmallInput);
        });
    }
}

fn cycle(lanes: &mut Lanes, events: &[Arc<Event>]) {
    for (first, event) in (0..).step_by(2).zip(events) {
        let candidate = |id| Candidate { id: EventId(id), attempts: 0, unknown: 0, event: Arc::clone(event) };
        lanes.head_admitted(candidate(first), false, 0);
        lanes.follower_admitted(candidate(first + 1));
    }
    for (first, event) in (0..).step_by(2).zip(events) {
        for id in [first, first + 1] {
            black_box(lanes.start(&event.entity));
            black_box(lanes.finished(&event.entity, EventId(id)));
        }
    }
}

/// Every host gets an event, and every event its turn.
fn hosts(criterion: &mut Criterion) {
    let destinations = Arc::new(Destinations::new(Destination::defaults(policy(), Duration::from_secs(5))));
    for count in [1_usize, 100, 1_000] {
        let named: Vec<Host> = (0..count).map(|host| Host::from(format!("host-{host}:443"))).collect();
        let entity = Entity::from("entity-1");
        let name = format!("host limit: 1,000 events of {count} hosts, from offer to end");
        criterion.bench_function(&name, |bencher| {
            bencher.iter_batched_ref(
                || {
                    let mut hosts = Hosts::new(50, 2_048, destinations.clone());
                    hosts.set_share(50);
                    hosts
                },
                |hosts| {
                    for host in named.iter().cycle().take(1_000) {
                        if hosts.offer(host, Duration::ZERO) == Offer::Ready {
                            hosts.enqueue(host, entity.clone(), Duration::ZERO);
                        }
                        if let Some(Turn { host, .. }) = hosts.start_next() {
                            let sent = hosts.send(&host);
                            black_box(hosts.ended(&host, sent, Some(Duration::from_millis(5))));
                        }
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
}

const SECOND: Duration = Duration::from_secs(1);
const BACKOFF: Backoff = Backoff { initial: SECOND, max: Duration::from_mins(1), factor: 2.0, jitter: 0.1 };

fn policy() -> Policy {
    Policy {
        max_attempts: 5,
        max_unknown: 10,
        delays: Delays::Growing(BACKOFF),
        retry_after_max: Duration::from_hours(1),
        final_statuses: BTreeSet::from([400, 404, 410]),
        success_statuses: BTreeSet::new(),
        hold: false,
        gone: Gone::Fail,
    }
}

fn outcomes(criterion: &mut Criterion) {
    let attempts = Attempts { begun: 3, unknown: 0 };
    let policy = policy();
    let outcome = Outcome::Response { status: 503, retry_after: None, excerpt: String::new() };
    criterion.bench_function("verdict: a 503, with its delay", |bencher| {
        bencher.iter(|| policy.judge(black_box(attempts), black_box(&outcome), black_box(0x9e37_79b9_7f4a_7c15)));
    });
    criterion.bench_function("backoff: a delay", |bencher| {
        bencher.iter(|| BACKOFF.delay(black_box(3), black_box(0x9e37_79b9_7f4a_7c15)));
    });
    criterion.bench_function("lifecycle: from PENDING by a retry to DELIVERED", |bencher| {
        bencher.iter(|| {
            let changes = [Change::Start, Change::End(End::Retry), Change::Start, Change::End(End::Deliver)];
            changes.into_iter().try_fold(black_box(State::Pending), State::after)
        });
    });
}

fn ownership(criterion: &mut Criterion) {
    criterion.bench_function("lease: may an attempt begin and send", |bencher| {
        let second = Duration::from_secs(1);
        bencher.iter(|| {
            let until = lease::counts_until(black_box(second), second * 15);
            lease::may_begin(black_box(second * 6), until) && lease::may_send(black_box(second), second * 6)
        });
    });
    // A third worker has come, and two have all partitions.
    let peers = [Peer { host_cap: 50, is_ready: true }; 3];
    let owners: Vec<Owner> = (0..32).map(|partition| Owner::Member(partition % 2)).collect();
    criterion.bench_function("shares: a plan for 3 workers and 32 partitions", |bencher| {
        bencher.iter(|| plan(black_box(1), &peers, &owners));
    });
}
