//! The contract of a message on the wire: from what came to an [`Event`], or to the reason why not.

pub mod cloudevents;
pub mod origin;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use self::cloudevents::Attributes;
pub use self::origin::{EntityFrom, SequenceFrom};
use super::destination::Destinations;
use super::event::{Entity, Event, IdempotencyKey, Partition, Sequence, Target};
use super::poison::{MAX_DESTINATION_BYTES, MAX_HTTP_HEADERS, MAX_KEY_BYTES, Poison};
use super::{redact, trace_context};

/// A message header, as far as the contract looks into it.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// Any text.
    Text(String),
    /// Any whole number.
    Integer(i64),
    /// A truth value.
    Boolean(bool),
    /// Seconds since 1970-01-01 UTC.
    Timestamp(u64),
    /// Another type; its name, with an article.
    Other(&'static str),
}

impl Field {
    /// The name of its type, with an article.
    fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "an integer",
            Self::Boolean(_) => "a boolean",
            Self::Timestamp(_) => "a timestamp",
            Self::Other(kind) => kind,
        }
    }
}

/// A message, independent of the AMQP library.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// The routing key.
    pub routing_key: String,
    /// The property `message_id`.
    pub message_id: Option<String>,
    /// The property `content_type`.
    pub content_type: Option<String>,
    /// The property `content_encoding`.
    pub content_encoding: Option<String>,
    /// The headers in the order of the message.
    pub headers: Vec<(String, Field)>,
    /// All properties, encoded.
    pub properties: Bytes,
    /// The body.
    pub body: Bytes,
}

/// What the worker's settings add to the contract.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// Where the entity stands.
    pub entity_from: EntityFrom,
    /// Where the number stands.
    pub sequence_from: SequenceFrom,
    /// Where events without a `destination` go.
    pub default_destination: Option<Target>,
    /// The largest body, in bytes.
    pub body_limit: usize,
    /// Those that may be called by their names; none where nobody knows which there are.
    pub destinations: Option<Arc<Destinations>>,
}

/// Headers that a message may not set: RFC 9110 §7.6.1 (connection), §7.2 and §8.6 (host, content-length), the
/// request's own content type (a property of the message), and those that Onceward sets.
const FORBIDDEN: [&str; 17] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "idempotency-key",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "traceparent",
    "tracestate",
    "http2-settings",
];

/// Whether a message or a destination may set this header.
#[must_use]
pub fn may_be_set(header: &HeaderName) -> bool {
    let ours = header.as_str().starts_with("onceward-") || header.as_str().starts_with("webhook-");
    !ours && !FORBIDDEN.contains(&header.as_str())
}

/// Reads a message by the contract.
///
/// # Errors
/// The first rule that the message breaks.
pub fn read(message: Message, partition: Partition, terms: &Terms) -> Result<Event, Poison> {
    let entity = terms.entity_from.read(&message.routing_key, &message.headers)?;
    let key = match message.message_id {
        Some(id) if id.is_empty() => return Err(Poison::MissingKey),
        Some(id) => read_key(id).map_err(Poison::BadKey)?,
        None => read_key(cloudevents::key(&message.headers).ok_or(Poison::MissingKey)?).map_err(Poison::BadEventKey)?,
    };
    if message.body.len() > terms.body_limit {
        return Err(Poison::BodyTooLarge { size: message.body.len(), limit: terms.body_limit });
    }
    let mut found = Found::default();
    for (name, field) in message.headers {
        if terms.sequence_from.is(&name) {
            set_once(&mut found.sequence, &name, sequence(&name, &field)?)?;
        }
        found.take(&name, field)?;
    }
    let attributes = Attributes::of(std::mem::take(&mut found.attributes))?;
    let destination = match found.destination.take() {
        Some(text) => read_target(&text, terms.destinations.as_deref())?,
        None => terms.default_destination.clone().ok_or(Poison::MissingDestination)?,
    };
    let property = |name: &str, value: Option<String>| {
        value.map(|text| HeaderValue::from_str(&text).map_err(|_| Poison::BadProperty(name.into()))).transpose()
    };
    let content_type = property("content_type", message.content_type)?;
    let content_encoding = property("content_encoding", message.content_encoding)?;
    let kept = Kept { key, partition, sequence: found.sequence, destination };
    let content = (message.properties, message.body);
    Ok(put_together(kept, entity, [content_type, content_encoding], (found, attributes), content))
}

/// The event of a message whose parts are read.
fn put_together(
    kept: Kept,
    entity: Entity,
    [content_type, content_encoding]: [Option<HeaderValue>; 2],
    (mut found, mut attributes): (Found, Attributes),
    (properties, body): (Bytes, Bytes),
) -> Event {
    let Kept { key, partition, sequence, destination } = kept;
    let (traceparent, tracestate) = found.trace();
    attributes.write(&mut found.headers, &entity, sequence);
    Event {
        key,
        entity,
        partition,
        sequence,
        host: destination.host(),
        destination,
        content_type: content_type.or(attributes.content_type),
        content_encoding,
        headers: found.headers,
        tracestate,
        traceparent,
        trace: None,
        is_sent_back: found.is_sent_back,
        ingested_ms: 0,
        properties,
        body,
    }
}

/// What the store keeps of an event beside its message: as it was judged when it came in.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its key.
    pub key: IdempotencyKey,
    /// Its partition.
    pub partition: Partition,
    /// Its number in the entity's order.
    pub sequence: Option<Sequence>,
    /// Where it goes.
    pub destination: Target,
}

/// Reads back a message that was accepted before. A rule that is stricter by now leaves out a header, and strands no event.
#[must_use]
pub fn read_back(message: Message, kept: Kept) -> Event {
    let mut found = Found::default();
    for (name, field) in message.headers {
        let _ = found.take(&name, field);
    }
    let property = |value: Option<String>| value.and_then(|text| HeaderValue::from_str(&text).ok());
    let properties = [property(message.content_type), property(message.content_encoding)];
    let attributes = Attributes::read_back(std::mem::take(&mut found.attributes));
    let content = (message.properties, message.body);
    put_together(kept, message.routing_key.into(), properties, (found, attributes), content)
}

/// A URL that can be posted to, or the name of a destination that is configured.
///
/// # Errors
/// [`Poison::BadDestination`] and [`Poison::UnknownDestination`], with what is wrong.
pub fn read_target(text: &str, destinations: Option<&Destinations>) -> Result<Target, Poison> {
    if !Target::is_name(text) {
        return read_destination(text).map(Target::Url);
    }
    match destinations {
        Some(destinations) if destinations.named(text).is_none() => Err(Poison::UnknownDestination(text.into())),
        _ => Ok(Target::Name(text.into())),
    }
}

/// A URL that can be posted to.
///
/// # Errors
/// [`Poison::BadDestination`], with what is wrong.
pub fn read_destination(text: &str) -> Result<Url, Poison> {
    if text.len() > MAX_DESTINATION_BYTES {
        let wrong = format!("it has {} bytes; the limit is {MAX_DESTINATION_BYTES}", text.len());
        return Err(Poison::BadDestination(wrong));
    }
    let shown = || redact::text(text);
    let url = Url::parse(text).map_err(|error| Poison::BadDestination(format!("{:?}: {error}", shown())))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Poison::BadDestination(format!("{:?} is not http or https", shown())));
    }
    let host = url.host_str().unwrap_or_default().len();
    if host > MAX_HOST_BYTES {
        let wrong = format!("its host has {host} bytes; names have {MAX_HOST_BYTES} at most (RFC 1035)");
        return Err(Poison::BadDestination(wrong));
    }
    Ok(url)
}

/// RFC 1035 §2.3.4: 255 octets on the wire, which is 253 in text.
const MAX_HOST_BYTES: usize = 253;

/// The key that a text is, or why it is none.
fn read_key(id: String) -> Result<IdempotencyKey, String> {
    if id.len() > MAX_KEY_BYTES {
        Err(format!("it has {} bytes", id.len()))
    } else if !id.bytes().all(|b| b.is_ascii_graphic()) {
        Err("it holds a space, a control character or a letter beyond ASCII".into())
    } else {
        Ok(id.into())
    }
}

/// The beginning of names of headers that are sent on.
const HTTP: &str = "http-";

/// The headers of the contract, gathered one by one.
#[derive(Default)]
struct Found {
    destination: Option<String>,
    sequence: Option<Sequence>,
    headers: HeaderMap,
    /// Those that a `CloudEvent` has its attributes in.
    attributes: Vec<(String, Field)>,
    traceparent: Option<HeaderValue>,
    tracestate: Option<HeaderValue>,
    is_sent_back: bool,
}

impl Found {
    /// Names are those of HTTP headers, which have no case; some clients write them as HTTP libraries do.
    fn take(&mut self, name: &str, field: Field) -> Result<(), Poison> {
        match name.to_ascii_lowercase().as_str() {
            "destination" => set_once(&mut self.destination, name, text(name, field)?)?,
            // A trace is never a reason to refuse an event.
            "traceparent" => self.traceparent = header_value(name, field).ok(),
            "tracestate" => self.tracestate = header_value(name, field).ok(),
            "onceward-reason" => self.is_sent_back = true,
            lower => {
                if lower.starts_with(HTTP) {
                    self.take_http(name, &name[HTTP.len()..], field)?;
                } else if cloudevents::attribute(name).is_some() {
                    self.attributes.push((name.into(), field));
                }
            }
        }
        Ok(())
    }

    /// `traceparent` and `tracestate`: the one only if it is valid, the other only with it (W3C Trace Context §3.3).
    fn trace(&mut self) -> (Option<HeaderValue>, Option<HeaderValue>) {
        let traceparent = self.traceparent.take();
        let traceparent = traceparent.filter(|text| text.to_str().is_ok_and(trace_context::is_valid));
        let tracestate = self.tracestate.take().filter(|_| traceparent.is_some());
        (traceparent, tracestate)
    }

    fn take_http(&mut self, name: &str, http_name: &str, field: Field) -> Result<(), Poison> {
        let header = HeaderName::from_bytes(http_name.as_bytes()).map_err(|_| Poison::BadHeader(name.into()))?;
        if !may_be_set(&header) {
            return Err(Poison::ForbiddenHeader(http_name.into()));
        }
        self.headers.append(header, header_value(name, field)?);
        if self.headers.len() > MAX_HTTP_HEADERS {
            return Err(Poison::TooManyHeaders(self.headers.len()));
        }
        Ok(())
    }
}

fn set_once<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), Poison> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Poison::RepeatedHeader(name.into())),
    }
}

fn text(name: &str, field: Field) -> Result<String, Poison> {
    match field {
        Field::Text(text) => Ok(text),
        other => Err(wrong_type(name, "text", other.kind())),
    }
}

/// The largest integer has no number after it that the store could wait for.
fn sequence(name: &str, field: &Field) -> Result<Sequence, Poison> {
    let out_of_range = |given: &dyn ToString| Poison::BadSequence { name: name.into(), given: given.to_string() };
    let has_default_name = name.eq_ignore_ascii_case(SequenceFrom::DEFAULT);
    let number = match field {
        Field::Integer(number) => Some(*number),
        // CloudEvents writes numbers as text.
        Field::Text(digits) if !has_default_name => {
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(Poison::NoNumber(name.into()));
            }
            digits.parse().ok()
        }
        other if has_default_name => return Err(wrong_type(name, "an integer", other.kind())),
        other => return Err(wrong_type(name, "an integer, or its digits as text", other.kind())),
    };
    match (number, field) {
        (Some(number), _) if (0..i64::MAX).contains(&number) => Ok(Sequence(number)),
        (Some(number), _) => Err(out_of_range(&number)),
        (None, Field::Text(digits)) if digits.len() <= 40 => Err(out_of_range(digits)),
        (None, _) => Err(out_of_range(&"too large")),
    }
}

/// Header values may also be whole numbers: producers set `http-x-retries: 3` without thinking of types.
fn header_value(name: &str, field: Field) -> Result<HeaderValue, Poison> {
    match field {
        Field::Text(text) => HeaderValue::from_str(&text).map_err(|_| Poison::BadHeader(name.into())),
        Field::Integer(number) => Ok(HeaderValue::from(number)),
        other => Err(wrong_type(name, "text or an integer", other.kind())),
    }
}

fn wrong_type(name: &str, expected: &'static str, found: &'static str) -> Poison {
    Poison::WrongType { name: name.into(), expected, found }
}

#[cfg(test)]
mod tests;
