//! `CloudEvents` 1.0: from the binary mode of its AMQP binding to that of its HTTP binding, or to its JSON format.
//!
//! <https://github.com/cloudevents/spec/tree/v1.0.2/cloudevents>: `bindings/amqp-protocol-binding.md` §3.1 (attributes are
//! application properties with `cloudEvents:` or `cloudEvents_` before their names; over AMQP 0-9-1 these are headers),
//! `bindings/http-protocol-binding.md` §3.1.3 (headers with `ce-`), `formats/json-format.md`. A message that holds a whole event
//! in its body (structured mode) is delivered as it is: its content type says what it is.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Field, header_value, set_once, wrong_type};
use crate::domain::event::{Entity, Sequence};
use crate::domain::poison::{MAX_HTTP_HEADERS, Poison};

/// What stands before an attribute's name in HTTP.
const CE: &str = "ce-";
const SPECVERSION: &str = "specversion";
/// The content type of the JSON format.
pub const STRUCTURED: HeaderValue = HeaderValue::from_static("application/cloudevents+json; charset=utf-8");
/// What every event has. Whoever sets one of them means a `CloudEvent`.
const REQUIRED: [&str; 4] = [SPECVERSION, "id", "source", "type"];
/// The version that is known.
const VERSION: &str = "1.0";
/// Characters that a header's value has percent-encoded (HTTP binding, §3.1.3.2), besides all beyond ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');
/// In a key, what parts source and id is encoded, too.
const ENCODED_IN_KEYS: &AsciiSet = &ENCODED.add(b'|');

/// The attribute that a message's header holds.
#[must_use]
pub fn attribute(header: &str) -> Option<&str> {
    let (start, name) = header.split_at_checked("cloudEvents:".len())?;
    (start.eq_ignore_ascii_case("cloudEvents:") || start.eq_ignore_ascii_case("cloudEvents_")).then_some(name)
}

/// The idempotency key of a `CloudEvent` without a `message_id`: source and id, which together are one event's alone.
#[must_use]
pub fn key(headers: &[(String, Field)]) -> Option<String> {
    let of = |wanted| {
        headers.iter().find_map(|(name, field)| match field {
            Field::Text(text) if attribute(name) == Some(wanted) && !text.is_empty() => Some(text),
            _ => None,
        })
    };
    let encoded = |text| utf8_percent_encode(text, ENCODED_IN_KEYS);
    Some(format!("{}|{}", encoded(of("source")?), encoded(of("id")?)))
}

/// The attributes of a `CloudEvent`; none of a message that is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes {
    values: Vec<(HeaderName, HeaderValue)>,
    /// The type of the data. It stands in the property `content_type`; some producers write it like the other attributes.
    pub(super) content_type: Option<HeaderValue>,
}

impl Attributes {
    /// Of those headers of a message that may be attributes.
    ///
    /// # Errors
    /// What is wrong with the `CloudEvent`.
    pub(super) fn of(headers: Vec<(String, Field)>) -> Result<Self, Poison> {
        let mut attributes = Self::default();
        if is_event(&headers) {
            for (name, field) in headers {
                attributes.take(&name, field)?;
            }
            attributes.check()?;
        }
        Ok(attributes)
    }

    /// Of a message that was accepted before.
    pub(super) fn read_back(headers: Vec<(String, Field)>) -> Self {
        let mut attributes = Self::default();
        if is_event(&headers) {
            for (name, field) in headers {
                let _ = attributes.take(&name, field);
            }
        }
        attributes
    }

    fn take(&mut self, header: &str, field: Field) -> Result<(), Poison> {
        let attribute = attribute(header).unwrap_or_default();
        if attribute == "datacontenttype" {
            return set_once(&mut self.content_type, header, header_value(header, field)?);
        }
        let is_named = attribute.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        // The JSON format has its own meaning for `data`.
        let is_named = is_named && !attribute.is_empty() && attribute != "data";
        let name = HeaderName::from_bytes(format!("{CE}{attribute}").as_bytes()).ok().filter(|_| is_named);
        let name = name.ok_or_else(|| {
            bad(format!("an attribute is named `{attribute}`: names are of a-z and 0-9, and not `data`"))
        })?;
        let text = match field {
            Field::Text(text) => text,
            Field::Integer(number) => number.to_string(),
            Field::Boolean(truth) => truth.to_string(),
            Field::Timestamp(seconds) => timestamp(seconds),
            other @ Field::Other(_) => {
                return Err(wrong_type(header, "text, an integer, a boolean or a timestamp", other.kind()));
            }
        };
        let value = HeaderValue::from_str(&utf8_percent_encode(&text, ENCODED).to_string());
        let value = value.map_err(|_| Poison::BadHeader(header.into()))?;
        if self.values.iter().any(|(known, _)| *known == name) {
            return Err(Poison::RepeatedHeader(header.into()));
        }
        self.values.push((name, value));
        if self.values.len() > MAX_HTTP_HEADERS {
            return Err(bad(format!("it has more than {MAX_HTTP_HEADERS} attributes")));
        }
        Ok(())
    }

    fn get(&self, attribute: &str) -> Option<&HeaderValue> {
        let found = self.values.iter().find(|(name, _)| name.as_str().strip_prefix(CE) == Some(attribute));
        found.map(|(_, value)| value).filter(|value| !value.is_empty())
    }

    /// It has all that it must have.
    fn check(&self) -> Result<(), Poison> {
        if let Some(missing) = REQUIRED.into_iter().find(|attribute| self.get(attribute).is_none()) {
            return Err(bad(format!("it has no attribute `{missing}`, or an empty one")));
        }
        match self.get(SPECVERSION) {
            Some(version) if version != VERSION => {
                let shown = String::from_utf8_lossy(version.as_bytes());
                Err(bad(format!("its specversion is `{shown}`, and not {VERSION}")))
            }
            _ => Ok(()),
        }
    }

    /// Writes the attributes of a `CloudEvent` as HTTP headers. The order that it is delivered in is told by the extensions
    /// `partitionkey` and `sequence`, where the producer has not set them.
    pub(super) fn write(&mut self, headers: &mut HeaderMap, entity: &Entity, sequence: Option<Sequence>) {
        if self.get(SPECVERSION).is_none() {
            return;
        }
        let encoded = |text: &str| HeaderValue::from_str(&utf8_percent_encode(text, ENCODED).to_string()).ok();
        let ours = [
            ("ce-partitionkey", encoded(entity.as_str())),
            ("ce-sequence", sequence.map(|sequence| HeaderValue::from(sequence.0))),
        ];
        for (name, value) in self.values.drain(..) {
            headers.insert(name, value);
        }
        for (name, value) in ours {
            if let Some(value) = value {
                headers.entry(name).or_insert(value);
            }
        }
    }
}

fn is_event(headers: &[(String, Field)]) -> bool {
    headers.iter().filter_map(|(name, _)| attribute(name)).any(|attribute| REQUIRED.contains(&attribute))
}

fn bad(why: impl Into<String>) -> Poison {
    Poison::BadCloudEvent(why.into())
}

/// RFC 3339, in UTC.
fn timestamp(seconds: u64) -> String {
    let latest = 253_402_300_799; // The end of the year 9999.
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.min(latest));
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The JSON format of an event whose attributes stand in headers, which are taken out; `content_type` is that of its body.
/// None if it is no `CloudEvent`, or is one in one piece already: the content type decides (HTTP binding, §3), and the attributes
/// may stand in headers besides.
#[must_use]
pub fn structured(headers: &mut HeaderMap, content_type: Option<&HeaderValue>, body: &Bytes) -> Option<Bytes> {
    headers.get("ce-specversion")?;
    if content_type.is_some_and(is_in_one_piece) {
        return None;
    }
    let named = |name: &HeaderName| name.as_str().starts_with(CE);
    let names: Vec<HeaderName> = headers.keys().filter(|name| named(name)).cloned().collect();
    let mut event = Map::new();
    for name in names {
        let Some(value) = headers.remove(&name) else { continue };
        let text = percent_decode_str(value.to_str().unwrap_or_default()).decode_utf8_lossy().into_owned();
        event.insert(name.as_str()[CE.len()..].into(), Value::String(text));
    }
    let content_type = content_type.and_then(|content_type| content_type.to_str().ok());
    if let Some(content_type) = content_type {
        event.insert("datacontenttype".into(), Value::String(content_type.into()));
    }
    let mut json = serde_json::to_vec(&event).ok()?;
    if !body.is_empty() {
        json.pop();
        json.extend_from_slice(b",");
        data(&mut json, content_type.unwrap_or("application/json"), body);
        json.push(b'}');
    }
    Some(json.into())
}

/// Also of a batch, which is several.
fn is_in_one_piece(content_type: &HeaderValue) -> bool {
    let start = b"application/cloudevents";
    content_type.as_bytes().get(..start.len()).is_some_and(|media| media.eq_ignore_ascii_case(start))
}

/// The member with the event's data: JSON as it is, byte for byte; text as text; anything else in base64 (JSON format, §3.1).
fn data(json: &mut Vec<u8>, content_type: &str, body: &[u8]) {
    let media = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_json = media.ends_with("/json") || media.ends_with("+json");
    if is_json && serde_json::from_slice::<&RawValue>(body).is_ok() {
        json.extend_from_slice(b"\"data\":");
        json.extend_from_slice(body);
        return;
    }
    let text = std::str::from_utf8(body).ok().filter(|_| !is_json && is_text(&media));
    if let Some(text) = text.and_then(|text| serde_json::to_vec(text).ok()) {
        json.extend_from_slice(b"\"data\":");
        json.extend_from_slice(&text);
        return;
    }
    json.extend_from_slice(b"\"data_base64\":\"");
    json.extend_from_slice(BASE64_STANDARD.encode(body).as_bytes());
    json.push(b'"');
}

fn is_text(media: &str) -> bool {
    media.starts_with("text/") || media.ends_with("+xml") || media == "application/xml"
}

#[cfg(test)]
mod tests;
