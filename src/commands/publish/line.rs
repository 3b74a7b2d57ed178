//! One line of NDJSON becomes an event.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::PublishArgs;
use super::event::Outgoing;
use crate::config::OriginArgs;

/// What the flags give to every line.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// Where events go that name no destination.
    pub destination: Option<String>,
    /// Their content type, if they name none.
    pub content_type: Option<String>,
    /// HTTP headers for all of them; their own go before.
    pub headers: BTreeMap<String, String>,
    /// Where workers look for entity and number.
    pub origin: OriginArgs,
    /// They have to keep the contract.
    pub strict: bool,
}

impl Defaults {
    /// Those that are given.
    #[must_use]
    pub fn of(args: &PublishArgs) -> Self {
        Self {
            destination: args.destination.clone(),
            content_type: args.content_type.clone(),
            headers: args.headers.iter().cloned().collect(),
            origin: args.origin.clone(),
            strict: !args.no_check,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    entity: String,
    key: Option<String>,
    destination: Option<String>,
    sequence: Option<i64>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    content_type: Option<String>,
    traceparent: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    body: Option<&'a RawValue>,
    text: Option<String>,
}

/// `null` is a body like any other, not the absence of one.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads and checks a line.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn read(line: &[u8], defaults: &Defaults) -> Result<Outgoing, String> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| explain(&error))?;
    let (body, content_type) = match (line.body, line.text) {
        (Some(body), None) => (Bytes::copy_from_slice(body.get().as_bytes()), "application/json"),
        (None, Some(text)) => (Bytes::from(text), "text/plain; charset=utf-8"),
        (None, None) => return Err("there is neither `body` nor `text`".into()),
        (Some(_), Some(_)) => return Err("there are both `body` and `text`: give one".into()),
    };
    let event = Outgoing {
        entity: line.entity,
        origin: defaults.origin.clone(),
        key: line.key.unwrap_or_else(fresh_key),
        destination: line.destination.or_else(|| defaults.destination.clone()),
        sequence: line.sequence,
        headers: merge(&defaults.headers, line.headers)?,
        content_type: line.content_type.or_else(|| defaults.content_type.clone()).unwrap_or(content_type.into()),
        traceparent: line.traceparent,
        body,
    };
    event.check(defaults.strict)?;
    Ok(event)
}

/// A new idempotency key; such keys sort by the time of their making, which is kind to the database's indexes.
pub(super) fn fresh_key() -> String {
    uuid::Uuid::now_v7().to_string()
}

fn merge(
    defaults: &BTreeMap<String, String>,
    own: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut lower = BTreeMap::new();
    for (name, value) in own {
        let name = name.to_ascii_lowercase();
        if lower.insert(name.clone(), value).is_some() {
            return Err(format!("the header `{name}` is there twice"));
        }
    }
    for (name, value) in defaults {
        lower.entry(name.clone()).or_insert_with(|| value.clone());
    }
    Ok(lower)
}

/// serde counts lines within what it was given, which is always one; the number in the file is said elsewhere.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(what) if error.column() > 0 => format!("{what} (column {})", error.column()),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Defaults {
        Defaults { destination: Some("http://default/".into()), strict: true, ..Defaults::default() }
    }

    fn read_text(line: &str) -> Result<Outgoing, String> {
        read(line.as_bytes(), &defaults())
    }

    #[test]
    fn a_line_with_every_field_is_read() {
        let event = read_text(
            r#"{"entity":"user-1","key":"k","destination":"http://h/p","sequence":7,"headers":{"X-A":"b"},
            "content_type":"application/cloudevents+json",
            "traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","body":{"z":1.10,"a": null}}"#,
        );
        let expected = Outgoing {
            origin: OriginArgs::default(),
            entity: "user-1".into(),
            key: "k".into(),
            destination: Some("http://h/p".into()),
            sequence: Some(7),
            headers: [("x-a".into(), "b".into())].into(),
            content_type: "application/cloudevents+json".into(),
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
            body: Bytes::from_static(br#"{"z":1.10,"a": null}"#),
        };
        assert_eq!(event, Ok(expected));
    }

    #[test]
    fn the_body_is_sent_as_it_is_written_and_text_as_its_text() {
        let table = [
            (r#""body":null"#, "null", "application/json"),
            (r#""body":"say \"hi\"""#, r#""say \"hi\"""#, "application/json"),
            (r#""body":[1, 12345678901234567890]"#, "[1, 12345678901234567890]", "application/json"),
            (r#""text":"say \"hi\"""#, r#"say "hi""#, "text/plain; charset=utf-8"),
            (r#""text":"""#, "", "text/plain; charset=utf-8"),
        ];
        for (field, body, content_type) in table {
            let event = read_text(&format!(r#"{{"entity":"e",{field}}}"#)).unwrap();
            assert_eq!((event.body.as_ref(), event.content_type.as_str()), (body.as_bytes(), content_type), "{field}");
        }
    }

    #[test]
    fn a_bad_line_is_refused_with_its_reason() {
        let table = [
            (r#"{"entity":"e","body":1,"colour":"red"}"#, "unknown field `colour`"),
            (r#"{"body":1}"#, "missing field `entity`"),
            (r#"{"entity":"e"}"#, "neither `body` nor `text`"),
            (r#"{"entity":"e","body":1,"text":"1"}"#, "both `body` and `text`"),
            (r#"{"entity":"e","body":1,"sequence":1.5}"#, "invalid type: floating point"),
            (r#"{"entity":"e","body":1,"headers":{"A":"1","a":"2"}}"#, "`a` is there twice"),
            (r#"{"entity":"e","body":1,"traceparent":"00"}"#, "traceparent is not valid"),
            (r#"{"entity":"e","body":1"#, "EOF while parsing an object (column 22)"),
            ("[1]", "invalid type"),
        ];
        for (line, reason) in table {
            let error = read_text(line).unwrap_err();
            assert!(error.contains(reason) && !error.contains("line 1"), "{line}: {error}");
        }
        assert!(read(b"{\"entity\":\"\xff\",\"body\":1}", &defaults()).is_err());
    }

    #[test]
    fn flags_fill_in_what_a_line_leaves_out() {
        let flags = Defaults {
            content_type: Some("text/csv".into()),
            headers: [("x-a".into(), "flag".into()), ("x-b".into(), "flag".into())].into(),
            ..defaults()
        };
        let event = read(br#"{"entity":"e","text":"1,2","headers":{"X-A":"line"}}"#, &flags).unwrap();
        assert_eq!(event.destination.as_deref(), Some("http://default/"));
        assert_eq!(event.content_type, "text/csv");
        assert_eq!(event.headers, [("x-a".into(), "line".into()), ("x-b".into(), "flag".into())].into());
        assert_eq!(event.key.len(), 36);
    }
}
