//! A message by the contract: over the wire, in, to the store, back, and out as a request.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString};
use onceward::broker::gatekeeper::properties::look_through;
use onceward::broker::wire;
use onceward::deliver::request::{Content, headers};
use onceward::domain::contract::cloudevents::structured;
use onceward::domain::contract::{Kept, Terms, read, read_back};
use onceward::domain::destination::{ContentMode, RequestSettings};
use onceward::domain::event::{self, Event, Partition};
use onceward::domain::poison::Poison;
use onceward::domain::trace_context;
use percent_encoding::percent_decode_str;

use super::{short, text};
use crate::engine::{Target, fuzz};

const PARTITION: Partition = Partition(3);
/// The most that a sentence about a message has: it goes into the headers of a letter.
const LONGEST_DETAIL: usize = 3_000;

/// A message of lines `name=value`; before the name of a header stands its type.
#[derive(Default)]
struct Sent {
    entity: String,
    body: Vec<u8>,
    properties: BasicProperties,
    headers: FieldTable,
}

impl Sent {
    fn of(input: &[u8]) -> Self {
        let mut sent = Self::default();
        for line in input.split(|byte| *byte == b'\n') {
            let at = line.iter().position(|byte| *byte == b'=').unwrap_or(line.len());
            sent.take(&line[..at], line.get(at + 1..).unwrap_or_default());
        }
        sent.properties = std::mem::take(&mut sent.properties).with_headers(sent.headers.clone());
        sent
    }

    fn take(&mut self, name: &[u8], value: &[u8]) {
        let all = text(value);
        let brief = || short(&all).into();
        let properties = std::mem::take(&mut self.properties);
        self.properties = match name {
            b"key" => properties.with_message_id(brief()),
            b"content_type" => properties.with_content_type(brief()),
            b"content_encoding" => properties.with_content_encoding(brief()),
            _ => properties,
        };
        match name {
            b"entity" => short(&all).clone_into(&mut self.entity),
            b"body" => self.body = value.to_vec(),
            [kind, b' ', name @ ..] => {
                let value = match kind {
                    b'I' => AMQPValue::LongLongInt(all.parse().unwrap_or_default()),
                    b'B' => AMQPValue::Boolean(true),
                    b'V' => AMQPValue::Void,
                    b'X' => AMQPValue::LongString(LongString::from(value)),
                    _ => AMQPValue::LongString(LongString::from(&*all)),
                };
                self.headers.insert(short(&text(name)).into(), value);
            }
            _ => {}
        }
    }
}

fn run(input: &[u8]) -> &'static str {
    let sent = Sent::of(input);
    let bytes = wire::encode(&sent.properties);
    look_through(&bytes).expect("what the library writes is let through");
    let message = wire::message(&sent.entity, &wire::decode(&bytes), sent.body.clone());
    assert_eq!(message.properties, bytes, "properties are kept as they came");
    let default_destination = sent.body.is_empty().then(|| event::Target::read_back("http://default/").expect("a URL"));
    let entity_from = if sent.body.starts_with(b"h") { "header:cloudEvents:partitionkey" } else { "routing-key" };
    let sequence_from = if sent.body.starts_with(b"he") { "header:cloudEvents:sequence" } else { "header:sequence" };
    let (entity_from, sequence_from) = (entity_from.parse().expect("a place"), sequence_from.parse().expect("a place"));
    let terms = Terms { entity_from, sequence_from, default_destination, body_limit: 100, destinations: None };
    match read(message, PARTITION, &terms) {
        Err(poison) => refused(&poison),
        Ok(event) => {
            restored(&event);
            requested(&event);
            "accepted"
        }
    }
}

fn refused(poison: &Poison) -> &'static str {
    let detail = poison.to_string();
    assert!(detail.len() <= LONGEST_DETAIL, "{} bytes: {detail}", detail.len());
    poison.code()
}

/// The store keeps text and bytes of it; from these the same event comes again.
fn restored(event: &Event) {
    let key = event.key.as_str();
    assert!((1..=200).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()), "{key:?}");
    let entity = event.entity.as_str();
    assert!(!entity.is_empty() && !entity.contains(char::is_control), "{entity:?}");
    assert!(event.sequence.is_none_or(|number| (0..i64::MAX).contains(&number.0)));
    let destination =
        event::Target::read_back(event.destination.as_str()).expect("a destination that was accepted is read again");
    assert_eq!(destination, event.destination, "and is the same");
    assert_eq!(event.host, destination.host());
    if let event::Target::Url(url) = &destination {
        assert!(matches!(url.scheme(), "http" | "https") && url.has_host());
    }
    let kept = Kept { key: key.into(), partition: event.partition, sequence: event.sequence, destination };
    let message = wire::message(entity, &wire::decode(&event.properties), event.body.to_vec());
    let back = read_back(message, kept);
    assert_eq!(format!("{back:?}"), format!("{event:?}"), "what comes back is what went in");
    assert_eq!(back.digest(), event.digest());
}

/// A `CloudEvent` in one piece is JSON, with its data, and leaves no attribute in a header.
fn in_one_piece(event: &Event) {
    let mut headers = event.headers.clone();
    let Some(json) = structured(&mut headers, event.content_type.as_ref(), &event.body) else {
        assert!(!event.headers.contains_key("ce-specversion"));
        return;
    };
    let value: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
    assert!(headers.keys().all(|name| !name.as_str().starts_with("ce-")));
    assert_eq!(value.get("data").is_some() || value.get("data_base64").is_some(), !event.body.is_empty(), "{value}");
}

/// The request says once what is ours to say, and nothing that belongs to the connection.
fn requested(event: &Event) {
    in_one_piece(event);
    let content = Content::of(event, ContentMode::Binary);
    let headers = headers((event, content), 1, None, &RequestSettings::default());
    for name in
        ["idempotency-key", "webhook-id", "webhook-timestamp", "onceward-entity", "onceward-attempt", "traceparent"]
    {
        assert_eq!(headers.get_all(name).iter().count(), 1, "{name}");
    }
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert_eq!(value("idempotency-key"), event.key.as_str());
    let entity = percent_decode_str(value("onceward-entity")).decode_utf8().expect("an entity is text");
    assert_eq!(entity, event.entity.as_str());
    assert!(trace_context::is_valid(value("traceparent")));
    assert_eq!(headers.contains_key("onceward-sequence"), event.sequence.is_some());
    assert_eq!(headers.get(CONTENT_TYPE), event.content_type.as_ref());
    assert_eq!(headers.contains_key(CONTENT_LENGTH), event.body.is_empty());
    for name in ["host", "connection", "transfer-encoding", "te", "trailer", "upgrade", "expect", "keep-alive"] {
        assert!(!headers.contains_key(name), "{name}");
    }
    let ours =
        headers.keys().filter(|name| name.as_str().starts_with("onceward-") || name.as_str().starts_with("webhook-"));
    assert!(ours.count() <= 5, "{headers:?}");
}

#[test]
fn contract() {
    let words = &[
        "\nT http-",
        "\nI http-",
        "\nT destination=",
        "\nI sequence=",
        "\nT traceparent=",
        "\nT onceward-reason=",
        "\nV ",
        "\nT cloudEvents:specversion=1.0\nT cloudEvents:id=1\nT cloudEvents_source=/a\nT cloudEvents:type=t",
        "\nT cloudEvents:",
        "\nT cloudEvents:partitionkey=",
        "\nT cloudEvents:sequence=1",
        "\nT http-ce-specversion=1.0",
        "content_type=application/json\nbody={}",
        "body=he",
        "\nX ",
        "\nT HTTP-Host=",
        "\\n",
        "\\r",
        "\\0",
        "key=",
        "entity=",
        "body=",
        "content_type=",
        "http://",
        "https://",
        "xn--",
        "[::1]",
        "%00",
        ":80",
        ":443",
        "..",
        "user:password@",
        "ß",
        "\u{3002}",
        "\u{ad}",
        "\u{130}",
        "transfer-encoding",
        "webhook-id",
        "content-encoding",
    ];
    fuzz(&Target { name: "contract", words, run });
}
