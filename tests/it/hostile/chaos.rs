//! Messages by chance: mostly such as the broker reads, so that they come to the worker.

use fastrand::Rng;

use crate::support::{Properties, Table, sized};

use super::kinds::all_types;
use super::trial::Kind;

/// Properties that are short strings, and that the broker doesn't judge.
const TEXTS: [u8; 7] = [
    Properties::CONTENT_TYPE,
    Properties::CONTENT_ENCODING,
    Properties::CORRELATION_ID,
    Properties::REPLY_TO,
    Properties::TYPE,
    Properties::APP_ID,
    Properties::MESSAGE_ID,
];
/// Names that the contract, the worker or the broker gives a meaning.
const NAMES: [&[u8]; 9] = [
    b"destination",
    b"Destination",
    b"sequence",
    b"http-x-a",
    b"traceparent",
    b"x-death",
    b"x-delivery-count",
    b"onceward-reason",
    b"onceward-attempts",
];

/// A message whose parts are right, odd or nonsense, in turns.
pub fn message(chance: &mut Rng, headers: &Table, number: usize) -> Kind {
    let name = format!("chaos-{number}");
    let mut table = if chance.bool() { headers.clone() } else { Table::default() };
    for _ in 0..chance.usize(..5) {
        let (kind, value) = value(chance, 0);
        let name = if chance.bool() { chance.choice(NAMES).expect("some").to_vec() } else { text(chance) };
        table = table.with(&name, kind, &value);
    }
    let mut properties = Properties::event(&name, &table);
    for _ in 0..chance.usize(..3) {
        let place = chance.choice(TEXTS).expect("some");
        properties = properties.with_short(place, &text(chance));
    }
    if chance.u8(..8) == 0 {
        properties = properties.with_flags(chance.u16(1..4));
    }
    let mut kind = Kind::new(&name, &properties);
    if chance.u8(..4) == 0 {
        kind.message.routing_key = text(chance);
    }
    if chance.u8(..20) == 0 {
        // The broker may see this one.
        let at = chance.usize(..kind.message.properties.len());
        kind.message.properties[at] = chance.u8(..);
    }
    kind
}

/// A header's type letter and value.
fn value(chance: &mut Rng, depth: usize) -> (u8, Vec<u8>) {
    let holds = chance.usize(..3);
    match chance.u8(..10) {
        0..3 if depth < 200 => {
            let table = (0..holds).fold(Table::default(), |table, _| {
                let (kind, value) = value(chance, depth + 1);
                table.with(&text(chance), kind, &value)
            });
            (b'F', sized(table.bytes()))
        }
        3..6 if depth < 200 => {
            let values = (0..holds).flat_map(|_| {
                let (kind, value) = value(chance, depth + 1);
                [&[kind], &*value].concat()
            });
            let values: Vec<_> = values.collect();
            (b'A', sized(&values))
        }
        6 => (b'S', sized(&text(chance))),
        _ => chance.choice(all_types()).expect("some"),
    }
}

/// A few bytes: letters, or anything.
fn text(chance: &mut Rng) -> Vec<u8> {
    let length = if chance.u8(..10) == 0 { 255 } else { chance.usize(..8) };
    let letters = chance.bool();
    (0..length).map(|_| if letters { chance.alphanumeric() as u8 } else { chance.u8(..) }).collect()
}
