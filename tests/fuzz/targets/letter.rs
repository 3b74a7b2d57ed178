//! A dead letter about any message: it fits a frame, says what it has to, and no broker acts on it.

use std::fmt::Write as _;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use onceward::broker::gatekeeper::properties::look_through;
use onceward::broker::letter::{plainest, properties, text};
use onceward::broker::wire;

use super::properties::WORDS;
use crate::engine::{Target, fuzz};

/// What fits the frame of a content header beside the rest of it, and what a letter may take of that.
const FRAME: usize = 131_050;
const MOST: usize = 130_000;

/// The first four bytes say how long texts are, how many small headers there are beside them, how long the history is, and
/// which properties there are beside the headers, which follow in wire format, as far as they are readable.
fn run(input: &[u8]) -> &'static str {
    let Some(([long, many, history, others], table)) = input.split_first_chunk() else { return "nothing" };
    let original = with_others(&readable(table), *others);
    let original = enlarged(&original, usize::from(*long) * 512, small_headers(*many));
    let size = wire::encode(&original).len();
    if size > FRAME {
        return "no_frame";
    }
    let history = history_of(usize::from(*history) / 8);
    let ours = || {
        [("onceward-reason", text("exhausted")), ("onceward-detail", text("d")), ("onceward-history", text(&history))]
    };
    let letter = properties(&original, ours());
    let outcome = checked(&original, &letter);
    checked(&letter, &properties(&letter, ours()));
    assert!(wire::encode(&plainest(&original, "exhausted", "d")).len() <= MOST);
    outcome
}

/// Mostly few: thousands take their time.
fn small_headers(many: u8) -> usize {
    usize::from(many) * if many < 160 { 1 } else { 128 }
}

/// Headers of these bytes, without what spoils them at the end.
fn readable(table: &[u8]) -> BasicProperties {
    let wire_of = |length: usize| {
        let head = u32::try_from(length).unwrap_or_default().to_be_bytes();
        [&[0x20, 0][..], &head, &table[..length]].concat()
    };
    let bytes = (0..=table.len()).rev().map(wire_of).find(|bytes| look_through(bytes).is_ok());
    bytes.map(|bytes| wire::decode(&bytes)).unwrap_or_default()
}

/// With a property for each bit that is set.
fn with_others(headers: &BasicProperties, which: u8) -> BasicProperties {
    let long = || "x".repeat(255).into();
    let with: [fn(BasicProperties, ShortString) -> BasicProperties; 8] = [
        |properties, _| properties.with_message_id("key".into()),
        |properties, _| properties.with_expiration("3000".into()).with_priority(7),
        |properties, _| properties.with_user_id("user".into()).with_cluster_id("cluster".into()),
        BasicProperties::with_reply_to,
        BasicProperties::with_correlation_id,
        BasicProperties::with_content_type,
        BasicProperties::with_app_id,
        BasicProperties::with_type,
    ];
    let chosen = (0..8).filter(|bit| which >> bit & 1 == 1);
    chosen.fold(headers.clone(), |properties, bit| with[bit](properties, long()))
}

/// The same with texts of so many bytes, and so many small headers.
fn enlarged(original: &BasicProperties, long: usize, many: usize) -> BasicProperties {
    let Some(headers) = original.headers() else { return original.clone() };
    let mut larger = FieldTable::default();
    for n in 0..many {
        larger.insert(format!("{n:x}").into(), AMQPValue::Void);
    }
    for (name, value) in headers.inner() {
        let value = match value {
            AMQPValue::LongString(short) if !short.as_bytes().is_empty() => {
                let times = 1 + long / short.as_bytes().len();
                AMQPValue::LongString(short.as_bytes().repeat(times).into())
            }
            other => other.clone(),
        };
        larger.insert(name.clone(), value);
    }
    original.clone().with_headers(larger)
}

/// A history of so many attempts, whose answers are as long as they may be: control characters, which JSON writes out.
fn history_of(attempts: usize) -> String {
    let mut history = "[".to_owned();
    for n in 0..attempts {
        let comma = if n == 0 { "" } else { "," };
        let _ = write!(history, "{comma}{{\"attempt\":{n},\"answer\":\"{}\"}}", "\\u0001".repeat(1_024));
    }
    history + "]"
}

fn checked(original: &BasicProperties, letter: &BasicProperties) -> &'static str {
    let bytes = wire::encode(letter);
    assert!(bytes.len() <= MOST, "a letter of {} bytes", bytes.len());
    look_through(&bytes).expect("a letter is readable");
    let letter = wire::decode(&bytes);
    let none = FieldTable::default();
    let headers = letter.headers().as_ref().unwrap_or(&none).inner();
    assert_eq!(headers.get("onceward-reason"), Some(&text("exhausted")));
    assert_eq!(headers.get("onceward-detail"), Some(&text("d")));
    assert!(headers.contains_key("onceward-history"));
    assert_eq!(letter.message_id(), original.message_id());
    assert_eq!(letter.content_type(), original.content_type());
    assert!(letter.expiration().is_none() && letter.user_id().is_none() && letter.reply_to().is_none());
    assert!(letter.priority().is_none() && letter.cluster_id().is_none());
    for name in ["CC", "BCC", "x-death", "x-delay", "x-first-death-queue", "x-last-death-queue"] {
        assert!(!headers.contains_key(name), "{name}");
    }
    let theirs = original.headers().as_ref().unwrap_or(&none).inner().iter();
    let renamed = |name: &str| name.starts_with("onceward-") || name.starts_with("x-") || name == "CC" || name == "BCC";
    // What is not a number is not the same as itself, and is written the same.
    let same = |one: &AMQPValue, other: &AMQPValue| one == other || format!("{one:?}") == format!("{other:?}");
    let kept = |name, value| headers.get(name).is_some_and(|kept| same(kept, value));
    let lost = theirs.filter(|(name, value)| !renamed(name.as_str()) && !kept(*name, value)).count();
    if headers.contains_key("onceward-cut") {
        return "cut";
    }
    assert_eq!(lost, 0, "nothing is left out without a word");
    "whole"
}

#[test]
fn letter() {
    fuzz(&Target { name: "letter", words: WORDS, run });
}
