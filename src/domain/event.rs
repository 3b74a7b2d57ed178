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
    /// What the cap on connections counts by: the destination's `host:port`.
    Host
);

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
    /// Where to POST it.
    pub destination: Url,
    /// The destination's host and port.
    pub host: Host,
    /// The request's content type.
    pub content_type: Option<HeaderValue>,
    /// The producer's own HTTP headers: the `http-*` headers of the message.
    pub headers: HeaderMap,
    /// W3C trace context, if the producer sent a valid one.
    pub traceparent: Option<HeaderValue>,
    /// W3C trace state, only together with `traceparent`.
    pub tracestate: Option<HeaderValue>,
    /// The `traceparent` of the span under which the event was taken in, if its trace is sampled.
    pub trace: Option<HeaderValue>,
    /// When it was taken in: milliseconds since 1970-01-01 UTC. For figures only.
    pub taken_in: u64,
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
