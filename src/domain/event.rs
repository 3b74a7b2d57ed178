//! An event and the names of its parts.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};
use url::Url;

/// The number under which an event is recorded; it grows in the order of recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId(pub i64);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The broker's bucket of entities: the number of its queue, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(pub i32);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! shared_text {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

shared_text!(
    /// One key is one execution: the AMQP `message_id`.
    IdempotencyKey
);
shared_text!(
    /// The scope of order (a user, an account, an order): the AMQP routing key.
    Entity
);
shared_text!(
    /// What the cap on connections counts by: the destination's `host:port`, or its name.
    Host
);

/// The longest name of a destination, in bytes.
pub const MAX_NAME_BYTES: usize = 63;

/// Where an event goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// There.
    Url(Url),
    /// Where a configured destination leads when the event is sent.
    Name(Arc<str>),
}

impl Target {
    /// Whether a text is the name of a destination: it is no URL then.
    #[must_use]
    pub fn is_name(text: &str) -> bool {
        let usable = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        text.len() <= MAX_NAME_BYTES
            && text.bytes().next().is_some_and(|first| first.is_ascii_lowercase())
            && text.bytes().all(usable)
    }

    /// As it is written in a message, and stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Url(url) => url.as_str(),
            Self::Name(name) => name,
        }
    }

    /// What the cap counts by, and settings are found by: the name, or `host:port`.
    #[must_use]
    pub fn host(&self) -> Host {
        match self {
            Self::Url(url) => {
                let host = url.host_str().unwrap_or_default();
                let port = url.port_or_known_default().unwrap_or_default();
                Host::from(format!("{host}:{port}"))
            }
            Self::Name(name) => Host::from(&**name),
        }
    }

    /// Reads back what was stored. None only if a hand has changed it.
    #[must_use]
    pub fn read_back(text: &str) -> Option<Self> {
        if Self::is_name(text) { Some(Self::Name(text.into())) } else { Url::parse(text).ok().map(Self::Url) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The producer's own number in its entity's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sequence(pub i64);

impl Sequence {
    /// The number that follows. The last one is followed by itself, so that a line of numbers ends instead of wrapping.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// SHA-256 of what must not differ between two messages of one key: entity, destination, sequence and body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

/// An event that keeps the contract: everything a delivery needs.
#[derive(Clone, Debug)]
pub struct Event {
    /// The idempotency key.
    pub key: IdempotencyKey,
    /// Whose order it belongs to.
    pub entity: Entity,
    /// Its bucket at the broker.
    pub partition: Partition,
    /// Its number in the entity's order, if the producer numbers its events.
    pub sequence: Option<Sequence>,
    /// Where it goes.
    pub destination: Target,
    /// What the cap counts by: the destination's host and port, or its name.
    pub host: Host,
    /// The request's content type.
    pub content_type: Option<HeaderValue>,
    /// The request's content encoding.
    pub content_encoding: Option<HeaderValue>,
    /// The producer's own HTTP headers: the `http-*` headers of the message.
    pub headers: HeaderMap,
    /// W3C trace context, if the producer sent a valid one.
    pub traceparent: Option<HeaderValue>,
    /// W3C trace state, only together with `traceparent`.
    pub tracestate: Option<HeaderValue>,
    /// The `traceparent` of the span under which the event was ingested, if its trace is sampled.
    pub trace: Option<HeaderValue>,
    /// Its message is a dead letter of ours that somebody has sent back.
    pub is_sent_back: bool,
    /// When it was ingested: milliseconds since 1970-01-01 UTC. For figures only.
    pub ingested_ms: u64,
    /// The message's properties as they came, in the broker's own encoding; given back on dead-lettering.
    pub properties: Bytes,
    /// The request's body, byte for byte.
    pub body: Bytes,
}

impl Event {
    /// What must not differ between two messages of one key.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        for text in [self.entity.as_str(), self.destination.as_str()] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        hash.update(self.sequence.map_or(-1, |s| s.0).to_be_bytes());
        hash.update(&self.body);
        Digest(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(entity: &str, destination: &str, sequence: Option<i64>, body: &'static str) -> Event {
        Event {
            key: "order-1".into(),
            entity: entity.into(),
            partition: Partition(0),
            sequence: sequence.map(Sequence),
            destination: Target::read_back(destination).unwrap(),
            host: Host::from("a:80"),
            content_type: None,
            content_encoding: None,
            headers: HeaderMap::new(),
            traceparent: None,
            trace: None,
            is_sent_back: false,
            ingested_ms: 0,
            tracestate: None,
            properties: Bytes::new(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn two_events_have_one_digest_only_if_nothing_differs_that_must_not() {
        let table = [
            ("user-7", "http://a/", None, "body"),
            ("user-8", "http://a/", None, "body"),
            ("user-7", "http://a/b", None, "body"),
            ("user-7", "http://a/", Some(0), "body"),
            ("user-7", "http://a/", Some(1), "body"),
            ("user-7", "http://a/", None, "Body"),
            ("user-7", "http://a/", None, ""),
        ];
        let digest = |row: usize| {
            let (entity, destination, sequence, body) = table[row];
            event(entity, destination, sequence, body).digest()
        };
        for one in 0..table.len() {
            for other in 0..table.len() {
                assert_eq!(digest(one) == digest(other), one == other, "{:?} {:?}", table[one], table[other]);
            }
        }
    }

    #[test]
    fn what_may_differ_between_two_messages_of_a_key_is_not_in_the_digest() {
        let one = event("user-7", "http://a/", Some(1), "body");
        let other = Event {
            partition: Partition(9),
            content_type: Some(HeaderValue::from_static("text/plain")),
            traceparent: Some(HeaderValue::from_static("00")),
            properties: Bytes::from_static(b"other"),
            ..one.clone()
        };
        assert_eq!(one.digest(), other.digest());
    }

    /// Digests are stored: another way to compute them would turn every duplicate of an older event into a conflict.
    #[test]
    fn a_digest_stays_what_it_was() {
        let digest = event("user-7", "http://a/", None, "body").digest();
        let shown: String = digest.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, "7dabb29da158441e0769c49ed3d8f52ca13a5fd2a0f78fea9e4a3ab890d88bd0");
    }

    #[test]
    fn numbers_and_names_are_shown_bare() {
        let table = [
            (EventId(-7).to_string(), "-7"),
            (Partition(12).to_string(), "12"),
            (Sequence(i64::MAX).to_string(), "9223372036854775807"),
            (IdempotencyKey::from("order-1").to_string(), "order-1"),
        ];
        for (shown, expected) in table {
            assert_eq!(shown, expected);
        }
    }

    #[test]
    fn the_last_sequence_is_followed_by_itself() {
        let table = [(0, 1), (41, 42), (i64::MAX - 1, i64::MAX), (i64::MAX, i64::MAX)];
        for (number, next) in table {
            assert_eq!(Sequence(number).next(), Sequence(next));
        }
    }
}
