//! Why a message is not delivered but dead-lettered: a short code for programs, a sentence for people.

use super::event::{Digest, Sequence};
use super::guard::Forbidden;

/// The longest idempotency key, in bytes: room for any UUID, ULID or URN, and an index entry stays small.
pub const MAX_KEY_BYTES: usize = 200;
/// The longest destination, in bytes.
pub const MAX_DESTINATION_BYTES: usize = 2_048;
/// The most `http-*` headers of one message.
pub const MAX_HTTP_HEADERS: usize = 64;

/// A message that breaks the contract, or that its entity's order leaves no place for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Poison {
    /// What the AMQP library can't read, or should not.
    #[error("the message can't be read: {0}")]
    Unreadable(#[from] Unreadable),
    /// No `message_id`.
    #[error("the message has no message_id: set this property to the event's idempotency key")]
    MissingKey,
    /// A key that is too long or not printable.
    #[error("the message_id is not a usable idempotency key ({0}): use 1 to {MAX_KEY_BYTES} bytes of visible ASCII")]
    BadKey(String),
    /// The key of a `CloudEvent` without a `message_id`, that is too long or not printable.
    #[error(
        "the message has no message_id, and source and id of its CloudEvent are no usable idempotency key ({0}): set message_id \
         to 1 to {MAX_KEY_BYTES} bytes of visible ASCII"
    )]
    BadEventKey(String),
    /// No routing key.
    #[error("the routing key is empty: publish with the entity (whose order is kept) as the routing key")]
    MissingEntity,
    /// No header that the entity is taken from, or an empty one.
    #[error(
        "the header `{0}`, which the entity is taken from (--entity-from), is missing or empty: set it to the entity, as text"
    )]
    MissingEntityHeader(String),
    /// A header that only looks like the one that the entity is taken from.
    #[error(
        "the entity is taken from the header `{wanted}` (--entity-from), and the message has `{found}`: the broker compares \
         these names byte for byte"
    )]
    EntityHeaderSpelling {
        /// The one that is meant.
        wanted: String,
        /// The one that is there.
        found: String,
    },
    /// An entity that can't be one: where it stands, and what is wrong.
    #[error("the {0}")]
    BadEntity(String),
    /// No destination in the message and none configured.
    #[error(
        "the message has no header `destination`, and the worker has no default: set the header to the URL to POST to"
    )]
    MissingDestination,
    /// A destination that is no http(s) URL with a host.
    #[error("the header `destination` is not a URL that can be posted to: {0}")]
    BadDestination(String),
    /// A name that no destination has.
    #[error(
        "the header `destination` is {0:?}, which is no URL (http://… or https://…), and no destination of this name is \
         configured (--destinations)"
    )]
    UnknownDestination(String),
    /// A destination that this worker does not call.
    #[error("the destination is forbidden ({code}): {0}", code = .0.verdict.code())]
    Forbidden(Forbidden),
    /// A header of the wrong AMQP type.
    #[error("the header `{name}` must be {expected}, but is {found}")]
    WrongType {
        /// The header.
        name: String,
        /// What the contract asks for.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// A sequence that is negative, or has no number after it.
    #[error(
        "the header `{name}` is {given}: it counts from 1 (or from 0, for a worker with --first-sequence any) to 2^63 - 2"
    )]
    BadSequence {
        /// The header.
        name: String,
        /// What it says.
        given: String,
    },
    /// A header with a number as text, which is none.
    #[error("the header `{0}` is not a number: give an integer, or its digits as text")]
    NoNumber(String),
    /// A `CloudEvent` that breaks its own rules.
    #[error("the CloudEvent can't be delivered: {0}")]
    BadCloudEvent(String),
    /// A header that Onceward or HTTP itself sets.
    #[error("the header `http-{0}` may not be set by a message: it belongs to the connection or to Onceward")]
    ForbiddenHeader(String),
    /// A header that is no valid HTTP header.
    #[error("the header `{0}` is not a valid HTTP header")]
    BadHeader(String),
    /// A property that is no valid value of the HTTP header that it becomes.
    #[error("the property `{0}` is not a valid value of an HTTP header")]
    BadProperty(String),
    /// A header of the contract that is there twice, in two spellings.
    #[error("the header `{0}` is there twice, in different spellings: names have no case; set it once")]
    RepeatedHeader(String),
    /// The database refuses the event's content.
    #[error("the event can't be recorded: {0}")]
    Unstorable(String),
    /// More headers than the limit.
    #[error("the message has {0} `http-*` headers; {MAX_HTTP_HEADERS} are allowed")]
    TooManyHeaders(usize),
    /// A body over the limit.
    #[error("the body has {size} bytes; the limit is {limit} (--body-limit)")]
    BodyTooLarge {
        /// Bytes that came.
        size: usize,
        /// Bytes that are allowed.
        limit: usize,
    },
    /// The key is known with other content.
    #[error(
        "the key was used before for an event with another entity, destination, sequence or body \
         (SHA-256 then {}, now {})",
        hex(earlier),
        hex(now)
    )]
    Conflict {
        /// The recorded content.
        earlier: Digest,
        /// The content of this message.
        now: Digest,
    },
    /// The event is recorded, and has failed.
    #[error(
        "an event with this key has failed before: redrive that one (`onceward redrive`), or send its dead letter back to the \
         exchange as it is"
    )]
    AlreadyFailed,
    /// The entity has gone past this number.
    #[error("sequence {sequence} was already passed: the entity's next number is {next}")]
    SequencePassed {
        /// This message's number.
        sequence: Sequence,
        /// The number that the entity waits for.
        next: Sequence,
    },
    /// Another key holds this number.
    #[error("sequence {0} is already taken by an event with another key")]
    SequenceTaken(Sequence),
    /// No number, though the entity uses them.
    #[error("the event has no header `sequence`, but earlier events of its entity have: number all or none of them")]
    Unnumbered,
}

/// What can't be read in a message as it comes over the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// AMQP's short strings are bytes to the broker, and text to those who read them.
    #[error("{0} is not UTF-8")]
    NotText(&'static str),
    /// Readers call themselves for each level.
    #[error("its headers hold tables or arrays nested more than {deepest} deep")]
    TooDeep {
        /// The deepest that is read, the headers themselves counted in.
        deepest: usize,
    },
    /// Lengths that don't fit, types that nobody knows.
    #[error("its properties are not encoded as AMQP 0-9-1 has it")]
    Malformed,
}

impl Poison {
    /// All codes.
    pub const CODES: [&'static str; 23] = [
        "unreadable",
        "missing_message_id",
        "bad_message_id",
        "missing_entity",
        "bad_entity",
        "missing_destination",
        "bad_destination",
        "unknown_destination",
        "forbidden_destination",
        "wrong_header_type",
        "bad_sequence",
        "bad_cloud_event",
        "forbidden_header",
        "bad_header",
        "repeated_header",
        "unstorable",
        "too_many_headers",
        "body_too_large",
        "key_conflict",
        "already_failed",
        "sequence_passed",
        "sequence_taken",
        "missing_sequence",
    ];

    /// A short, stable name for programs and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::MissingKey => "missing_message_id",
            Self::BadKey(_) | Self::BadEventKey(_) => "bad_message_id",
            Self::MissingEntity | Self::MissingEntityHeader(_) | Self::EntityHeaderSpelling { .. } => "missing_entity",
            Self::BadEntity(_) => "bad_entity",
            Self::MissingDestination => "missing_destination",
            Self::BadDestination(_) => "bad_destination",
            Self::UnknownDestination(_) => "unknown_destination",
            Self::Forbidden(_) => "forbidden_destination",
            Self::WrongType { .. } => "wrong_header_type",
            Self::BadSequence { .. } | Self::NoNumber(_) => "bad_sequence",
            Self::BadCloudEvent(_) => "bad_cloud_event",
            Self::ForbiddenHeader(_) => "forbidden_header",
            Self::BadHeader(_) | Self::BadProperty(_) => "bad_header",
            Self::RepeatedHeader(_) => "repeated_header",
            Self::Unstorable(_) => "unstorable",
            Self::TooManyHeaders(_) => "too_many_headers",
            Self::BodyTooLarge { .. } => "body_too_large",
            Self::Conflict { .. } => "key_conflict",
            Self::AlreadyFailed => "already_failed",
            Self::SequencePassed { .. } => "sequence_passed",
            Self::SequenceTaken(_) => "sequence_taken",
            Self::Unnumbered => "missing_sequence",
        }
    }
}

fn hex(digest: &Digest) -> String {
    let start = digest.0.iter().take(8).fold(0, |start, byte| start << 8 | u64::from(*byte));
    format!("{start:016x}…")
}

#[cfg(test)]
mod tests {
    use super::super::guard::Guard;
    use super::*;

    #[test]
    fn every_code_is_in_the_list_of_all() {
        let (earlier, now, number) = (Digest([0; 32]), Digest([1; 32]), Sequence(1));
        let forbidden = Guard::default().judge([127, 0, 0, 1].into()).unwrap_err();
        let of_each_kind = [
            Poison::Unreadable(Unreadable::Malformed),
            Poison::MissingKey,
            Poison::BadKey(String::new()),
            Poison::MissingEntity,
            Poison::BadEntity("routing key (the entity) holds a control character".into()),
            Poison::MissingDestination,
            Poison::BadDestination(String::new()),
            Poison::UnknownDestination(String::new()),
            Poison::Forbidden(forbidden),
            Poison::WrongType { name: String::new(), expected: "", found: "" },
            Poison::BadSequence { name: String::new(), given: String::new() },
            Poison::BadCloudEvent(String::new()),
            Poison::ForbiddenHeader(String::new()),
            Poison::BadHeader(String::new()),
            Poison::RepeatedHeader(String::new()),
            Poison::Unstorable(String::new()),
            Poison::TooManyHeaders(0),
            Poison::BodyTooLarge { size: 0, limit: 0 },
            Poison::Conflict { earlier, now },
            Poison::AlreadyFailed,
            Poison::SequencePassed { sequence: number, next: number },
            Poison::SequenceTaken(number),
            Poison::Unnumbered,
        ];
        assert_eq!(of_each_kind.map(|poison| poison.code()), Poison::CODES);
    }

    #[test]
    fn a_conflict_shows_where_both_digests_begin() {
        let digest = |first: u8| Digest(std::array::from_fn(|n| u8::try_from(n % 8).unwrap() * 16 + first));
        let told = Poison::Conflict { earlier: digest(1), now: digest(0x8f) }.to_string();
        assert!(told.ends_with("(SHA-256 then 0111213141516171…, now 8f9fafbfcfdfefff…)"), "{told}");
    }
}
