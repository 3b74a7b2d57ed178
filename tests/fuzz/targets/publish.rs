//! A line of `publish --ndjson`: what it takes, AMQP carries, and a worker accepts.

use lapin::BasicProperties;
use onceward::broker::gatekeeper::properties::look_through;
use onceward::broker::wire;
use onceward::commands::publish::event::Outgoing;
use onceward::commands::publish::line::{Defaults, read};
use onceward::domain::contract::{self, Terms};
use onceward::domain::event::Partition;

use super::text;
use crate::engine::{Target, fuzz};

/// What a frame of RabbitMQ's default size has room for.
const FRAME: usize = 131_000;

/// The word LONG stands for a text of 30,000 bytes.
fn run(input: &[u8]) -> &'static str {
    let line = if input.windows(4).any(|four| four == b"LONG") {
        text(input).replace("LONG", &"x".repeat(30_000)).into_bytes()
    } else {
        input.to_vec()
    };
    let defaults = Defaults { headers: [("x-a".into(), "b".into())].into(), ..Defaults::default() };
    let loose = read(&line, &defaults);
    let strict = read(&line, &Defaults { strict: true, ..defaults });
    let Ok(event) = strict else {
        if let Ok(event) = loose {
            carried(&event);
            return "loose";
        }
        return "refused";
    };
    assert!(loose.is_ok(), "what keeps the contract is carried");
    let message = wire::message(&event.entity, &carried(&event), event.body.to_vec());
    let terms = Terms { body_limit: usize::MAX, ..Terms::default() };
    let read = contract::read(message, Partition(0), &terms).expect("a worker accepts it");
    assert_eq!((read.entity.as_str(), read.key.as_str(), &read.body), (&*event.entity, &*event.key, &event.body));
    assert_eq!(read.sequence.map(|number| number.0), event.sequence);
    assert_eq!(read.traceparent.is_some(), event.traceparent.is_some());
    assert_eq!(read.headers.len(), event.headers.len());
    assert!(read.headers.contains_key("x-a"));
    "accepted"
}

/// As it comes out of the wire.
fn carried(event: &Outgoing) -> BasicProperties {
    let bytes = wire::encode(&event.properties(1));
    assert!(bytes.len() <= FRAME, "{} bytes of properties", bytes.len());
    look_through(&bytes).expect("it can be read");
    wire::decode(&bytes)
}

#[test]
fn publish() {
    let words = &[
        "\"entity\":\"e\"",
        "\"key\":\"k\"",
        "\"body\":",
        "\"text\":\"t\"",
        "\"headers\":{",
        "\"sequence\":",
        "\"destination\":\"http://h/\"",
        ",",
        "}",
        "{",
        "null",
        "\"content_type\":\"a/b\"",
        "\"traceparent\":\"",
        "LONG",
        "\\u0000",
        "\\ud800",
        "\\n",
        "\"X-A\":\"c\"",
        "\"host\":\"h\"",
        "1e999",
    ];
    fuzz(&Target { name: "publish", words, run });
}
