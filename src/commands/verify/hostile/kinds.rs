//! The kinds of hostile messages, as far as RabbitMQ takes them.

use std::fmt::Display;

use super::RawMessage;
use super::link::FRAME_MAX;
use super::wire::{Properties, Table, nested, sized};

/// Not UTF-8, whatever follows.
const LATIN: &[u8] = b"caf\xe9";
/// Fields or values of a crowded header.
const CROWD: u32 = 20_000;
/// What a header frame holds besides the properties: the frame's own bytes, the class, the weight and the body's size.
const BESIDES: usize = 8 + 12;

/// What is hostile about a message.
pub(in super::super) struct Kind {
    /// In words.
    pub(in super::super) name: &'static str,
    /// It keeps the contract all the same: it is to be delivered.
    pub(in super::super) honest: bool,
    change: fn(&mut Draft),
}

/// How many kinds there are.
#[expect(clippy::cast_possible_truncation, reason = "there are some dozens")]
pub(in super::super) const COUNT: u32 = (KINDS.len() + LARGE.len()) as u32;

/// What a message is made from: an event at first.
struct Draft {
    routing_key: Vec<u8>,
    properties: Properties,
    headers: Table,
    body: Vec<u8>,
}

const fn hostile(name: &'static str, change: fn(&mut Draft)) -> Kind {
    Kind { name, honest: false, change }
}

const fn honest(name: &'static str, change: fn(&mut Draft)) -> Kind {
    Kind { name, honest: true, change }
}

/// In turns.
const KINDS: [Kind; 42] = [
    hostile("tables 100 deep", |draft| draft.nest(b"box", b"F", 100)),
    hostile("arrays 100 deep", |draft| draft.nest(b"box", b"A", 100)),
    hostile("tables 1,000 deep", |draft| draft.nest(b"box", b"F", 1_000)),
    hostile("arrays 1,000 deep", |draft| draft.nest(b"box", b"A", 1_000)),
    hostile("tables 18,000 deep", |draft| draft.nest(b"box", b"F", 18_000)),
    hostile("arrays 18,000 deep", |draft| draft.nest(b"box", b"A", 18_000)),
    hostile("tables of arrays 18,000 deep", |draft| draft.nest(b"box", b"FA", 18_000)),
    hostile("x-death 100 deep", |draft| draft.nest(b"x-death", b"AF", 100)),
    hostile("x-death 1,000 deep", |draft| draft.nest(b"x-death", b"AF", 1_000)),
    hostile("x-death 18,000 deep", |draft| draft.nest(b"x-death", b"AF", 18_000)),
    hostile("x-death a table 18,000 deep", |draft| draft.nest(b"x-death", b"F", 18_000)),
    hostile("routing key not UTF-8", |draft| draft.routing_key.extend([b".", LATIN].concat())),
    hostile("message_id not UTF-8", |draft| draft.properties.set_text(Properties::MESSAGE_ID, LATIN)),
    hostile("content_type not UTF-8", |draft| draft.properties.set_text(Properties::CONTENT_TYPE, LATIN)),
    hostile("app_id not UTF-8", |draft| draft.properties.set_text(Properties::APP_ID, LATIN)),
    hostile("type not UTF-8", |draft| draft.properties.set_text(Properties::TYPE, LATIN)),
    hostile("correlation_id not UTF-8", |draft| draft.properties.set_text(Properties::CORRELATION_ID, LATIN)),
    hostile("a header's name not UTF-8", |draft| draft.headers.add(LATIN, b'V', &[])),
    hostile("a name in a table not UTF-8", |draft| {
        let mut inner = Table::default();
        inner.add(LATIN, b'V', &[]);
        draft.headers.add(b"table", b'F', &sized(&inner.0));
    }),
    hostile("not UTF-8, with an x-death", |draft| {
        draft.properties.set_text(Properties::APP_ID, LATIN);
        draft.headers.add(b"x-death", b'A', &sized(b"V"));
    }),
    honest("headers that fill the frame", |draft| draft.fill(0)),
    honest("headers that nearly fill the frame", |draft| draft.fill(300)),
    hostile("filled, with an x-death", |draft| {
        draft.headers.add(b"x-death", b'A', &sized(b"VV"));
        draft.fill(0);
    }),
    hostile("20,000 fields", |draft| {
        (0..CROWD).for_each(|number| draft.headers.add(format!("{number:x}").as_bytes(), b'V', &[]));
    }),
    hostile("20,000 values", |draft| draft.headers.add(b"array", b'A', &sized(&b"t\x01".repeat(CROWD as usize)))),
    hostile("x-death of voids", |draft| draft.headers.add(b"x-death", b'A', &sized(b"VVVV"))),
    hostile("x-death with a text for its count", |draft| {
        let mut death = Table::default();
        death.add_text(b"count", b"many");
        death.add_text(b"queue", b"none");
        death.add_text(b"reason", b"rejected");
        draft.headers.add(b"x-death", b'A', &sized(&[b"F", &*sized(&death.0)].concat()));
    }),
    hostile("x-death as a number", |draft| draft.headers.add(b"x-death", b'I', &[0; 4])),
    hostile("x-delivery-count below zero", |draft| {
        draft.headers.add(b"x-delivery-count", b'l', &i64::MIN.to_be_bytes());
    }),
    hostile("no properties", |draft| {
        draft.properties.clear();
        draft.headers.0.clear();
    }),
    hostile("lines in the message_id", |draft| draft.properties.set_text(Properties::MESSAGE_ID, b"a\r\nb")),
    hostile("lines in an http- header", |draft| draft.headers.add_text(b"http-x-a", b"a\r\nx-b: c")),
    hostile("destination twice", |draft| draft.headers.add_text(b"destination", b"ftp://host/")),
    hostile("onceward-attempts as a void", |draft| draft.headers.add(b"onceward-attempts", b'V', &[])),
    hostile("flags that announce nothing", |draft| draft.properties.more_flags = 3),
    hostile("expires after a millisecond", |draft| draft.properties.set_text(Properties::EXPIRATION, b"1")),
    honest("expires after 49 days", |draft| draft.properties.set_text(Properties::EXPIRATION, b"4294967295")),
    honest("priority 255", |draft| draft.properties.set(Properties::PRIORITY, &[255])),
    honest("the last timestamp", |draft| draft.properties.set(Properties::TIMESTAMP, &[0xff; 8])),
    honest("a long reply_to", |draft| draft.properties.set_text(Properties::REPLY_TO, &[b'r'; 255])),
    honest("CC", |draft| draft.headers.add(b"CC", b'A', &sized(b"S\0\0\0\x01aS\0\0\0\x01bS\0\0\0\x01c"))),
    honest("BCC", |draft| draft.headers.add(b"BCC", b'A', &sized(b"S\0\0\0\x01aS\0\0\0\x01bS\0\0\0\x01c"))),
];

/// Behind all others, and once in a run.
const LARGE: [Kind; 2] = [
    hostile("a body of 2 MiB", |draft| draft.body.resize(2 << 20, b'x')),
    hostile("a body of 12 MiB", |draft| draft.body.resize(12 << 20, b'x')),
];

/// The kind of a message of a run, by its number.
pub(in super::super) fn kind(number: u32) -> &'static Kind {
    static ALL: (&[Kind], &[Kind]) = (&KINDS, &LARGE);
    let ((kinds, large), number) = (ALL, number as usize);
    number.checked_sub(kinds.len()).and_then(|number| large.get(number)).unwrap_or(&kinds[number % kinds.len()])
}

/// The key of a message, unless its kind takes it away.
pub(in super::super) fn key(run: &str, number: impl Display) -> String {
    format!("{run}-hostile-{number}")
}

/// Its routing key; its kind may add something behind a dot.
pub(in super::super) fn entity(run: &str, number: impl Display) -> String {
    format!("verify.{run}.hostile.{number}")
}

pub(super) fn message(run: &str, number: u32, destination: &str) -> RawMessage {
    let mut draft = Draft {
        routing_key: entity(run, number).into_bytes(),
        properties: Properties::default(),
        headers: Table::default(),
        body: format!("hostile {number}").into_bytes(),
    };
    draft.properties.set_text(Properties::MESSAGE_ID, key(run, number).as_bytes());
    // It survives a restart of the broker.
    draft.properties.set(Properties::DELIVERY_MODE, &[2]);
    draft.headers.add_text(b"destination", destination.as_bytes());
    (kind(number).change)(&mut draft);
    RawMessage { properties: draft.all_properties().bytes(), routing_key: draft.routing_key, body: draft.body }
}

impl Draft {
    /// A header that holds others, one in the other.
    fn nest(&mut self, header: &[u8], pattern: &[u8], depth: usize) {
        self.headers.add(header, pattern[0], &nested(pattern, depth));
    }

    /// Headers that fill the frame, but for so many bytes.
    fn fill(&mut self, missing: usize) {
        let filler = |length: usize| {
            let mut headers = Table(self.headers.0.clone());
            headers.add_text(b"filler", &vec![b'f'; length]);
            headers
        };
        let empty = filler(0);
        // The headers' own length is four bytes more.
        let taken = BESIDES + self.properties.bytes().len() + 4 + empty.0.len();
        self.headers = filler((FRAME_MAX as usize).saturating_sub(taken + missing));
    }

    /// The properties with the headers.
    fn all_properties(&mut self) -> &Properties {
        if !self.headers.0.is_empty() {
            self.properties.set(Properties::HEADERS, &sized(&self.headers.0));
        }
        &self.properties
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_in_turns_and_large_ones_once() {
        let names: Vec<_> = (0..2 * COUNT).map(|number| kind(number).name).collect();
        let count = |name: &str| names.iter().filter(|other| **other == name).count();
        for number in 0..COUNT {
            let name = kind(number).name;
            assert!(if name.contains("MiB") { count(name) == 1 } else { count(name) >= 2 }, "{name}: {names:?}");
        }
    }

    #[test]
    fn headers_fit_their_frame() {
        for number in 0..COUNT {
            let (name, message) = (kind(number).name, message("run", number, "http://127.0.0.1:65535/verify"));
            let size = BESIDES + message.properties.len();
            assert!(size <= FRAME_MAX as usize, "{name}: {size}");
            if name == "headers that fill the frame" {
                assert_eq!(size, FRAME_MAX as usize);
            }
        }
    }
}
