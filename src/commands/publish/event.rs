//! An event on its way to the broker: what the worker would say to it, and its form on the wire.

use std::collections::BTreeMap;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use crate::config::OriginArgs;
use crate::domain::contract::{self, Field, Message, Terms};
use crate::domain::event::Partition;
use crate::domain::poison::Poison;
use crate::domain::trace_context;

const PERSISTENT: u8 = 2;
/// What AMQP's one-byte lengths can say: routing key, `message_id`, content type and the names of headers.
const MAX_SHORT_BYTES: usize = 255;
/// The headers of a message travel in one frame, of 128 KiB with RabbitMQ's defaults; a longer one ends the connection.
const MAX_HEADER_BYTES: usize = 100_000;

/// An event to publish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// The routing key, and the header that workers take the entity from, if they do.
    pub entity: String,
    /// Where workers look for entity and number.
    pub origin: OriginArgs,
    /// The idempotency key.
    pub key: String,
    /// Where it is to be posted; a worker may have a default.
    pub destination: Option<String>,
    /// Its number in the entity's order.
    pub sequence: Option<i64>,
    /// HTTP headers, by the names in lower case, without the prefix.
    pub headers: BTreeMap<String, String>,
    /// The request's content type.
    pub content_type: String,
    /// The W3C trace context.
    pub traceparent: Option<String>,
    /// The request's body.
    pub body: Bytes,
}

impl Outgoing {
    /// Whether AMQP can carry it, and with `strict`, whether it keeps the contract.
    ///
    /// A worker's body limit is not known here, and is not checked.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn check(&self, strict: bool) -> Result<(), String> {
        self.check_lengths()?;
        if !strict {
            return Ok(());
        }
        if self.traceparent.as_deref().is_some_and(|text| !trace_context::is_valid(text)) {
            return Err("the traceparent is not valid: see https://www.w3.org/TR/trace-context/".into());
        }
        let OriginArgs { entity_from, sequence_from } = self.origin.clone();
        let terms = Terms { entity_from, sequence_from, body_limit: usize::MAX, ..Terms::default() };
        contract::read(self.message(), Partition(0), &terms).map(drop).map_err(|poison| match poison {
            Poison::MissingKey => "the key is empty".into(),
            Poison::MissingEntity | Poison::MissingEntityHeader(_) => "the entity is empty".into(),
            Poison::MissingDestination => {
                "there is no destination: give --destination (or --no-check, if the worker has a default)".into()
            }
            other => other.to_string(),
        })
    }

    fn check_lengths(&self) -> Result<(), String> {
        let named = [("entity", &self.entity), ("key", &self.key), ("content type", &self.content_type)];
        for (name, text) in named {
            if text.len() > MAX_SHORT_BYTES {
                return Err(format!("the {name} has {} bytes; AMQP carries {MAX_SHORT_BYTES}", text.len()));
            }
        }
        let headers = self.wire_headers();
        if let Some((name, _)) = headers.iter().find(|(name, _)| name.len() > MAX_SHORT_BYTES) {
            return Err(format!("the name of the header `{name}` is longer than {MAX_SHORT_BYTES} bytes"));
        }
        let bytes: usize = headers.iter().map(|(name, text)| name.len() + text.len() + 8).sum();
        if bytes > MAX_HEADER_BYTES {
            return Err(format!("the headers have {bytes} bytes together; AMQP carries about {MAX_HEADER_BYTES}"));
        }
        Ok(())
    }

    /// All headers that are text.
    fn wire_headers(&self) -> Vec<(String, String)> {
        let plain = [("destination", &self.destination), ("traceparent", &self.traceparent)];
        let plain = plain.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text.clone()?)));
        let entity = self.origin.entity_from.header().map(|name| (name.to_owned(), self.entity.clone()));
        let http = self.headers.iter().map(|(name, text)| (format!("http-{name}"), text.clone()));
        plain.chain(entity).chain(http).collect()
    }

    /// As the worker will see it.
    fn message(&self) -> Message {
        let texts = self.wire_headers().into_iter().map(|(name, text)| (name, Field::Text(text)));
        let name = self.origin.sequence_from.header();
        let sequence = self.sequence.map(|number| (name.to_owned(), Field::Integer(number)));
        Message {
            routing_key: self.entity.clone(),
            message_id: Some(self.key.clone()),
            content_type: Some(self.content_type.clone()),
            content_encoding: None,
            headers: texts.chain(sequence).collect(),
            properties: Bytes::new(),
            body: self.body.clone(),
        }
    }

    /// The properties on the wire; [`Self::check`] has to come first, because too long a text panics in lapin.
    #[must_use]
    pub fn properties(&self, unix_seconds: u64) -> BasicProperties {
        let mut headers = FieldTable::default();
        for (name, text) in self.wire_headers() {
            headers.insert(ShortString::from(name), AMQPValue::LongString(LongString::from(text)));
        }
        if let Some(number) = self.sequence {
            headers.insert(self.origin.sequence_from.header().into(), AMQPValue::LongLongInt(number));
        }
        BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_message_id(self.key.as_str().into())
            .with_content_type(self.content_type.as_str().into())
            .with_timestamp(unix_seconds)
            .with_app_id("onceward-publish".into())
            .with_headers(headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Outgoing {
        Outgoing {
            entity: "user-1".into(),
            key: "k".into(),
            destination: Some("http://localhost/".into()),
            content_type: "application/json".into(),
            ..Outgoing::default()
        }
    }

    #[test]
    fn what_the_worker_would_dead_letter_is_refused_unless_asked_for() {
        let table: [(&str, Outgoing); 8] = [
            ("entity is empty", Outgoing { entity: String::new(), ..good() }),
            ("key is empty", Outgoing { key: String::new(), ..good() }),
            ("visible ASCII", Outgoing { key: "a b".into(), ..good() }),
            ("201 bytes", Outgoing { key: "k".repeat(201), ..good() }),
            ("no destination", Outgoing { destination: None, ..good() }),
            ("not http or https", Outgoing { destination: Some("ftp://host/".into()), ..good() }),
            ("`sequence` is -1", Outgoing { sequence: Some(-1), ..good() }),
            ("`http-host`", Outgoing { headers: [("host".into(), "x".into())].into(), ..good() }),
        ];
        assert_eq!(good().check(true), Ok(()));
        for (reason, event) in table {
            assert!(event.check(true).unwrap_err().contains(reason), "{reason}: {:?}", event.check(true));
            assert_eq!(event.check(false), Ok(()), "{reason}");
        }
    }

    #[test]
    fn what_amqp_cannot_carry_is_refused_in_any_case() {
        let long = "x".repeat(256);
        let table = [
            Outgoing { entity: long.clone(), ..good() },
            Outgoing { key: long.clone(), ..good() },
            Outgoing { content_type: long.clone(), ..good() },
            Outgoing { headers: [(long, "x".into())].into(), ..good() },
            Outgoing { headers: [("x".into(), "x".repeat(MAX_HEADER_BYTES))].into(), ..good() },
        ];
        for event in table {
            assert!(event.check(false).is_err(), "{event:?}");
        }
    }
}
