//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): which `traceparent` an event carries.

use http::HeaderValue;
use sha2::{Digest as _, Sha256};

use super::event::IdempotencyKey;

/// Whether `text` is a `traceparent` that may be passed on: §3.2.2, version 00 or a later one that begins like it.
#[must_use]
pub fn is_valid(text: &str) -> bool {
    let mut parts = text.split('-');
    let (Some(version), Some(trace), Some(parent), Some(flags)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let nothing_more = parts.next().is_none();
    is_hex(version, 2)
        && version != "ff"
        && (version != "00" || nothing_more)
        && is_hex(trace, 32)
        && trace.bytes().any(|b| b != b'0')
        && is_hex(parent, 16)
        && parent.bytes().any(|b| b != b'0')
        && is_hex(flags, 2)
}

/// Whether the caller has recorded the trace (§3.2.2.5, the flag `sampled`). For a valid `traceparent`.
#[must_use]
pub fn is_sampled(text: &str) -> bool {
    let flags = text.split('-').nth(3).and_then(|flags| u8::from_str_radix(flags, 16).ok());
    flags.is_some_and(|flags| flags & 1 == 1)
}

/// The trace's id, of a valid `traceparent`.
#[must_use]
pub fn trace_id(text: &str) -> &str {
    text.split('-').nth(1).unwrap_or_default()
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A `traceparent` for an event whose producer sent none: not sampled, and the same for every attempt of one key,
/// so that the receiver's traces of all attempts can be found together.
#[must_use]
pub fn from_key(key: &IdempotencyKey) -> HeaderValue {
    let hash: [u8; 32] = Sha256::digest(key.as_str()).into();
    let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte));
    // Each id is forced to be odd: an id of zeros is invalid.
    let text = format!("00-{:032x}-{:016x}-00", number(&hash[..16]) | 1, number(&hash[16..24]) | 1);
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_accepted_as_the_recommendation_says() {
        let table = [
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", true),
            ("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-follows", true),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", false),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", false),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false),
            ("0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b70-01", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g", false),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", false),
            ("", false),
        ];
        for (text, valid) in table {
            assert_eq!(is_valid(text), valid, "{text}");
        }
    }

    #[test]
    fn trace_and_decision_are_read_from_a_traceparent() {
        for (flags, sampled) in [("00", false), ("01", true), ("02", false), ("03", true), ("ff", true)] {
            let text = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
            assert_eq!(is_sampled(&text), sampled, "{flags}");
            assert_eq!(trace_id(&text), "4bf92f3577b34da6a3ce929d0e0e4736");
        }
        assert!(!is_sampled(""));
    }

    #[test]
    fn a_made_up_traceparent_is_valid_and_steady() {
        let key = IdempotencyKey::from("order-1");
        let made = from_key(&key);
        assert!(is_valid(made.to_str().unwrap()));
        assert_eq!(made, from_key(&key));
    }

    /// Attempts of one event may be made by workers of two versions. Here the hash has an even number for both ids.
    #[test]
    fn a_made_up_traceparent_is_the_beginning_of_the_keys_hash() {
        let made = from_key(&IdempotencyKey::from("order-1"));
        assert_eq!(made, "00-0bafe22156d2698c143b86040446d367-ead863ba600d5c93-00");
    }
}
