//! A dead letter: a message of ours about one that could not be delivered.
//!
//! Body, routing key and the properties that the contract knows are as they came. What would make the broker act on the
//! letter (let it expire, refuse it, copy it) is taken out and kept as a header of its own name behind `onceward-original-`.

use std::collections::{BTreeMap, HashSet};

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use serde_json::Value;

use super::gatekeeper::properties::readable_part;
use super::wire;
use crate::domain::contract::EntityFrom;
use crate::domain::contract::origin::MAX_ENTITY_BYTES;

/// Bytes of properties that fit a frame of the usual size (`frame_max` 131,072) beside what else is in it.
const MOST: usize = 130_000;
/// What stands before the headers if there is nothing else: flags, and the table's length.
const AROUND_HEADERS: usize = 6;
/// The header that says what was cut for want of room.
const CUT: &str = "onceward-cut";
const HISTORY: &str = "onceward-history";
/// What is kept of other producers' and brokers' words has this before its name.
const ORIGINAL: &str = "onceward-original-";
/// The routing key of a message whose entity stands elsewhere.
const ROUTING_KEY: &str = "onceward-original-routing-key";
/// Names of headers that are told to have been cut, in bytes.
const LONGEST_LIST: usize = 2_000;

/// Headers that make RabbitMQ act: copies, and the traces of its own dead-lettering.
fn makes_broker_act(name: &str) -> bool {
    matches!(name, "CC" | "BCC" | "x-death" | "x-delay" | "x-deaths")
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
}

/// The properties of the dead letter about a message, with headers of ours.
#[must_use]
pub fn properties<'a>(
    original: &BasicProperties,
    ours: impl IntoIterator<Item = (&'a str, AMQPValue)>,
) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in original.headers().iter().flat_map(FieldTable::inner) {
        let text = name.as_str();
        let is_forged = text.starts_with("onceward-") && !text.starts_with(ORIGINAL);
        let name = if is_forged || makes_broker_act(text) { kept_as(text) } else { name.clone() };
        headers.insert(name, value.clone());
    }
    let taken_out = [
        ("expiration", original.expiration().clone()),
        ("user-id", original.user_id().clone()),
        ("reply-to", original.reply_to().clone()),
        ("priority", original.priority().map(|priority| priority.to_string().into())),
    ];
    for (name, value) in taken_out {
        if let Some(value) = value {
            headers.insert(kept_as(name), AMQPValue::LongString(value.as_str().into()));
        }
    }
    for (name, value) in ours {
        headers.insert(name.into(), value);
    }
    fit(&harmless(original), headers)
}

/// The properties of a message as they are stored. Where the entity stands in a header, the routing key is kept with them: it is
/// stored nowhere else. Nobody else's word for it counts.
#[must_use]
pub fn keep_routing_key(properties: BasicProperties, routing_key: &str, from: &EntityFrom) -> BasicProperties {
    let is_told = |headers: &FieldTable| headers.inner().contains_key(ROUTING_KEY);
    if from.header().is_none() && !properties.headers().as_ref().is_some_and(is_told) {
        return properties;
    }
    let mut headers = properties.headers().clone().unwrap_or_default();
    headers.insert(ROUTING_KEY.into(), text(routing_key));
    properties.with_headers(headers)
}

/// The routing key of a letter: that of the message, which is its entity unless its properties say otherwise.
#[must_use]
pub fn routing_key(original: &BasicProperties, entity: &str) -> String {
    let kept = original.headers().as_ref().and_then(|headers| headers.inner().get(ROUTING_KEY));
    match kept {
        Some(AMQPValue::LongString(kept)) if kept.as_bytes().len() <= MAX_ENTITY_BYTES => kept.to_string(),
        _ => entity.to_owned(),
    }
}

/// What stands for properties that can't be read: what of them can be, and a header that holds all of them as they came, in wire
/// format.
#[must_use]
pub fn unread(original: &[u8]) -> BasicProperties {
    let readable = readable_part(original).map(|readable| wire::decode(&readable)).unwrap_or_default();
    let mut headers = readable.headers().clone().unwrap_or_default();
    headers.insert(format!("{ORIGINAL}properties").into(), AMQPValue::ByteArray(original.to_vec().into()));
    readable.with_headers(headers)
}

/// Whether RabbitMQ, when it dead-letters a message with these properties by itself, may come upon a trace of dead-lettering
/// that it has not made; it does not bear that.
#[must_use]
pub fn has_deaths(properties: &BasicProperties) -> bool {
    let is_one = |name: &ShortString| name.as_str().eq_ignore_ascii_case("x-death");
    properties.headers().as_ref().is_some_and(|headers| headers.inner().keys().any(is_one))
}

/// A letter in its plainest form, for a broker that refuses the whole of it: key, reason and detail.
#[must_use]
pub fn plainest(original: &BasicProperties, reason: &str, detail: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("onceward-reason".into(), AMQPValue::LongString(reason.into()));
    headers.insert("onceward-detail".into(), AMQPValue::LongString(detail.into()));
    headers.insert(CUT.into(), AMQPValue::LongString("all other properties: the broker refused them".into()));
    let mut plain = BasicProperties::default().with_headers(headers);
    if let Some(key) = original.message_id().clone() {
        plain = plain.with_message_id(key);
    }
    plain
}

fn kept_as(name: &str) -> ShortString {
    let mut name = format!("{ORIGINAL}{}", name.to_ascii_lowercase());
    let mut end = name.len().min(255);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name.into()
}

/// The properties that no broker acts on.
fn harmless(original: &BasicProperties) -> BasicProperties {
    let mut kept = BasicProperties::default();
    macro_rules! keep {
        ($($name:ident by $with:ident),*) => {
            $(if let Some(value) = original.$name().clone() {
                kept = kept.$with(value);
            })*
        };
    }
    keep!(
        content_type by with_content_type,
        content_encoding by with_content_encoding,
        correlation_id by with_correlation_id,
        message_id by with_message_id,
        timestamp by with_timestamp,
        kind by with_type,
        app_id by with_app_id
    );
    kept
}

/// Cuts headers until they fit: the middle of the history first, then the largest of the producer's own.
fn fit(properties: &BasicProperties, mut headers: FieldTable) -> BasicProperties {
    let mut cut: Vec<String> = Vec::new();
    loop {
        let whole = properties.clone().with_headers(headers.clone());
        let size = wire::encode(&whole).len();
        if size <= MOST {
            return whole;
        }
        if let Some(shorter) = shorter_history(&headers) {
            headers.insert(HISTORY.into(), AMQPValue::LongString(shorter.into()));
            note_cut(&mut headers, "the middle of the history", &cut);
        } else {
            let names = largest(&headers, size - MOST);
            if names.is_empty() {
                // There is nothing left that is ours to cut.
                return whole;
            }
            headers = without(&headers, &names);
            cut.extend(names.into_iter().map(|name| name.to_string()));
            note_cut(&mut headers, "headers", &cut);
        }
    }
}

fn note_cut(headers: &mut FieldTable, what: &str, names: &[String]) {
    let mut list = names.join(", ");
    let mut end = list.len().min(LONGEST_LIST);
    while !list.is_char_boundary(end) {
        end -= 1;
    }
    list.truncate(end);
    let text = if names.is_empty() { what.to_owned() } else { format!("{what}: {list}") };
    headers.insert(CUT.into(), AMQPValue::LongString(text.into()));
}

/// The history without the middle half of its attempts; none if there is nothing left to cut.
fn shorter_history(headers: &FieldTable) -> Option<String> {
    let Some(AMQPValue::LongString(history)) = headers.inner().get(HISTORY) else { return None };
    let mut attempts: Vec<Value> = serde_json::from_slice(history.as_bytes()).ok()?;
    if attempts.len() < 4 {
        return None;
    }
    let quarter = attempts.len() / 4;
    attempts.drain(quarter..attempts.len() - quarter);
    serde_json::to_string(&attempts).ok()
}

/// The largest headers that are none of ours: as few as take so many bytes, or all. Not one by one: a message may have
/// thousands, and each look goes over all of them.
fn largest(headers: &FieldTable, bytes: usize) -> Vec<ShortString> {
    let size = |name: &ShortString, value: &AMQPValue| {
        let alone: FieldTable = BTreeMap::from([(name.clone(), value.clone())]).into();
        wire::encode(&BasicProperties::default().with_headers(alone)).len() - AROUND_HEADERS
    };
    let is_ours = |name: &str| name.starts_with("onceward-") && !name.starts_with(ORIGINAL);
    let cuttable = headers.inner().iter().filter(|(name, _)| !is_ours(name.as_str()));
    let mut sizes: Vec<_> = cuttable.map(|(name, value)| (size(name, value), name)).collect();
    sizes.sort_unstable_by(|one, other| other.cmp(one));
    let mut taken = 0;
    let enough = sizes.into_iter().take_while(|(size, _)| {
        let is_needed = taken < bytes;
        taken += size;
        is_needed
    });
    enough.map(|(_, name)| name.clone()).collect()
}

fn without(headers: &FieldTable, names: &[ShortString]) -> FieldTable {
    let names: HashSet<&ShortString> = names.iter().collect();
    let kept = headers.inner().iter().filter(|(name, _)| !names.contains(name));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect::<BTreeMap<_, _>>().into()
}

/// A header of ours that holds text.
#[must_use]
pub fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
        properties.headers().as_ref().and_then(|headers| headers.inner().get(name))
    }

    #[test]
    fn what_makes_a_broker_act_is_kept_as_a_header_and_does_nothing_any_more() {
        let mut headers = FieldTable::default();
        for name in ["CC", "BCC", "x-death", "x-first-death-queue", "onceward-reason", "mine"] {
            headers.insert(name.into(), text(name));
        }
        let original = BasicProperties::default()
            .with_expiration("3000".into())
            .with_user_id("producer".into())
            .with_reply_to("queue".into())
            .with_priority(7)
            .with_message_id("key".into())
            .with_content_encoding("gzip".into())
            .with_headers(headers);
        let letter = properties(&original, [("onceward-reason", text("exhausted"))]);
        assert!(letter.expiration().is_none() && letter.user_id().is_none() && letter.reply_to().is_none());
        assert!(letter.priority().is_none() && header(&letter, "CC").is_none() && header(&letter, "x-death").is_none());
        let kept = [
            ("onceward-original-expiration", "3000"),
            ("onceward-original-user-id", "producer"),
            ("onceward-original-reply-to", "queue"),
            ("onceward-original-priority", "7"),
            ("onceward-original-cc", "CC"),
            ("onceward-original-bcc", "BCC"),
            ("onceward-original-x-death", "x-death"),
            ("onceward-original-x-first-death-queue", "x-first-death-queue"),
            ("onceward-original-onceward-reason", "onceward-reason"),
            ("onceward-reason", "exhausted"),
            ("mine", "mine"),
        ];
        for (name, value) in kept {
            assert_eq!(header(&letter, name), Some(&text(value)), "{name}");
        }
        assert_eq!(letter.content_encoding().as_ref().map(ShortString::as_str), Some("gzip"));
        // A letter about a letter that was sent back keeps what the first one kept.
        let again = properties(&letter, [("onceward-reason", text("already_failed"))]);
        assert_eq!(header(&again, "onceward-original-user-id"), Some(&text("producer")));
    }

    #[test]
    fn a_long_history_is_cut_in_its_middle_and_says_so() {
        let attempt = |n: u32| format!(r#"{{"attempt":{n},"answer":"{}"}}"#, "x".repeat(600));
        let history = format!("[{}]", (1..=300).map(attempt).collect::<Vec<_>>().join(","));
        let letter = properties(&BasicProperties::default(), [(HISTORY, text(&history))]);
        assert!(wire::encode(&letter).len() <= MOST);
        let Some(AMQPValue::LongString(cut)) = header(&letter, HISTORY) else { panic!("no history") };
        let attempts: Vec<Value> = serde_json::from_slice(cut.as_bytes()).unwrap();
        assert_eq!((&attempts[0]["attempt"], &attempts[attempts.len() - 1]["attempt"]), (&1.into(), &300.into()));
        assert_eq!(header(&letter, CUT), Some(&text("the middle of the history")));
    }

    #[test]
    fn headers_that_nearly_fill_a_frame_are_cut_from_the_largest_on() {
        let mut headers = FieldTable::default();
        headers.insert("large".into(), text(&"l".repeat(100_000)));
        headers.insert("middle".into(), text(&"m".repeat(30_000)));
        headers.insert("small".into(), text("s"));
        let original = BasicProperties::default().with_headers(headers);
        let letter = properties(&original, [("onceward-detail", text(&"d".repeat(900)))]);
        assert!(wire::encode(&letter).len() <= MOST);
        assert!(header(&letter, "large").is_none() && header(&letter, "middle").is_some());
        assert_eq!(header(&letter, CUT), Some(&text("headers: large")));
    }

    #[test]
    fn of_thousands_of_small_headers_no_more_are_cut_than_it_takes() {
        let mut headers = FieldTable::default();
        for n in 0..10_000 {
            headers.insert(format!("{n:07}").into(), AMQPValue::LongInt(n));
        }
        let original = BasicProperties::default().with_headers(headers);
        let letter = properties(&original, [("onceward-detail", text(&"d".repeat(4_000)))]);
        let size = wire::encode(&letter).len();
        assert!((MOST - 1_000..=MOST).contains(&size), "{size}");
    }
}
