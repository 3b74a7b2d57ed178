//! `traceparent`: what is valid can be passed on, and read.

use http::HeaderValue;
use onceward::domain::event::IdempotencyKey;
use onceward::domain::trace_context::{from_key, is_sampled, is_valid, trace_id};

use crate::engine::{Target, fuzz};

/// W3C Trace Context, §3.2.2, byte by byte.
fn is_traceparent(text: &[u8]) -> bool {
    let hex = |range: std::ops::Range<usize>| {
        text.get(range).is_some_and(|part| part.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b)))
    };
    let zero = |range: std::ops::Range<usize>| text[range].iter().all(|byte| *byte == b'0');
    let dashes = [2, 35, 52].iter().all(|at| text.get(*at) == Some(&b'-'));
    let whole = dashes && hex(0..2) && hex(3..35) && hex(36..52) && hex(53..55);
    let end = text.len() == 55 || (!text.starts_with(b"00") && text.get(55) == Some(&b'-'));
    whole && end && !text.starts_with(b"ff") && !zero(3..35) && !zero(36..52)
}

fn run(input: &[u8]) -> &'static str {
    let text = super::text(input);
    let made = from_key(&IdempotencyKey::from(&*text));
    assert!(
        made.to_str().is_ok_and(|made| is_valid(made) && !is_sampled(made)),
        "one that is made up is valid: {made:?}"
    );
    let valid = is_valid(&text);
    assert_eq!(valid, is_traceparent(text.as_bytes()), "{text:?}");
    if !valid {
        return "invalid";
    }
    assert_eq!(trace_id(&text), &text[3..35]);
    assert_eq!(is_sampled(&text), text.as_bytes()[54] % 2 == u8::from(text.as_bytes()[54].is_ascii_digit()), "{text}");
    if HeaderValue::from_str(&text).is_ok() { "valid" } else { "unsendable" }
}

#[test]
fn traces() {
    let words = &["-", "00-", "ff-", "-01", "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"];
    fuzz(&Target { name: "traces", words, run });
}
