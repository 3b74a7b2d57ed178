//! Properties in wire format, as they come from the broker or from the store.

use lapin::BasicProperties;
use lapin::protocol::basic::parse_properties;
use lapin::types::AMQPValue;
use onceward::broker::gatekeeper::properties::{look_through, may_be_left_to_the_queue, readable_part};
use onceward::broker::{letter, wire};
use onceward::domain::poison::Unreadable;

use crate::engine::{Target, fuzz};

/// Some words have zeros and lengths in them: values of each type.
pub const WORDS: &[&str] = &[
    "\x05emptyV",
    "\x04textS\0\0\0\x03abc",
    "\x06nestedF\0\0\0\x08\x05innerV",
    "\x05arrayA\0\0\0\x02VV",
    "\x01tt\x01",
    "\x01ll\0\0\0\0\0\0\0\x07",
    "\x01DD\x02\0\0\0\x07",
    "\x01ff\x7f\0\0\0",
    "\x01dd\x7f\0\0\0\0\0\0\0",
    "\x01TT\0\0\0\0\0\0\0\x07",
    "\x01xx\0\0\0\x02\0\0",
    "\x01ss\0\x07",
    "\x01II\0\0\0\x07",
    "\x07x-deathA\0\0\0\0",
    "\x02CCA\0\0\0\0",
    "\x0fonceward-reasonS\0\0\0\x01x",
    "\x0bdestinationS\0\0\0\x09http://a/",
    "\x01bb\x07",
    "\x01BB\x07",
    "\x01uu\0\x07",
];

fn has_death(properties: &BasicProperties) -> bool {
    letter::has_deaths(properties)
}

fn run(input: &[u8]) -> &'static str {
    let looked = look_through(input);
    let outcome = match &looked {
        // The library would call itself for each level.
        Err(Unreadable::TooDeep { .. }) => "too_deep",
        Err(Unreadable::NotText(_)) => "not_text",
        Err(Unreadable::Malformed) => "malformed",
        Ok(_) => "readable",
    };
    if outcome != "too_deep" {
        let library = parse_properties(input).is_ok_and(|(rest, _)| rest.is_empty());
        assert_eq!(looked.is_ok(), library, "{looked:?}: the library reads what is let through, and nothing else");
    }
    if let Ok(takes) = looked {
        assert!(takes >= input.len());
        let properties = wire::decode(input);
        let written = wire::encode(&properties);
        look_through(&written).expect("what was read is written so that it can be read");
        assert_eq!(wire::encode(&wire::decode(&written)), written, "written again it is the same");
        assert_eq!(may_be_left_to_the_queue(input), !has_death(&properties));
        let message = wire::message("entity", &properties, Vec::new());
        assert_eq!(message.headers.len(), properties.headers().as_ref().map_or(0, |headers| headers.inner().len()));
    }
    if let Some(part) = readable_part(input) {
        look_through(&part).expect("the readable part is readable");
        assert!(!has_death(&wire::decode(&part)), "and has no x-death");
    }
    kept_as_bytes(input);
    outcome
}

/// The letter of what can't be read holds all of it.
fn kept_as_bytes(input: &[u8]) {
    let letter = letter::properties(&letter::unread(input), [("onceward-reason", letter::text("unreadable"))]);
    let sent = wire::encode(&letter);
    look_through(&sent).expect("a letter is readable");
    let read = wire::decode(&sent);
    let kept = read.headers().as_ref().and_then(|headers| headers.inner().get("onceward-original-properties"));
    assert_eq!(kept, Some(&AMQPValue::ByteArray(input.to_vec().into())));
    assert!(!has_death(&read));
}

#[test]
fn properties() {
    fuzz(&Target { name: "properties", words: WORDS, run });
}
