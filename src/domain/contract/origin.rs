//! Where a message says whose order it belongs to, and which number it has there.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::cloudevents::attribute;
use super::{Field, wrong_type};
use crate::domain::event::Entity;
use crate::domain::poison::Poison;

/// The longest entity, in bytes: as long as a routing key may be (AMQP's short strings).
pub const MAX_ENTITY_BYTES: usize = 255;
/// Headers that mean something else; the last two are lists of further routing keys to the broker.
const TAKEN: [&str; 5] = ["destination", "traceparent", "tracestate", "cc", "bcc"];

/// Where the entity stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EntityFrom {
    /// In the routing key.
    #[default]
    RoutingKey,
    /// In this header, which the exchange hashes instead; its name as the broker compares it, byte for byte.
    Header(Arc<str>),
}

impl EntityFrom {
    /// The header, if it is one.
    #[must_use]
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::RoutingKey => None,
            Self::Header(name) => Some(name),
        }
    }

    /// The entity of a message.
    ///
    /// # Errors
    /// That there is none, or that it can't be one.
    pub fn read(&self, routing_key: &str, headers: &[(String, Field)]) -> Result<Entity, Poison> {
        let Self::Header(wanted) = self else {
            return if routing_key.is_empty() {
                Err(Poison::MissingEntity)
            } else {
                usable(routing_key, "routing key")
            };
        };
        match headers.iter().find(|(name, _)| **name == **wanted) {
            None => Err(match headers.iter().find(|(name, _)| is_same(name, wanted)) {
                Some((found, _)) => Poison::EntityHeaderSpelling { wanted: wanted.to_string(), found: found.clone() },
                None => Poison::MissingEntityHeader(wanted.to_string()),
            }),
            Some((_, Field::Text(text))) if text.is_empty() => Err(Poison::MissingEntityHeader(wanted.to_string())),
            Some((_, Field::Text(text))) => usable(text, &format!("header `{wanted}`")),
            Some((_, other)) => {
                let expected = "text, as the broker routes the number 7 and the text \"7\" to different queues";
                Err(wrong_type(wanted, expected, other.kind()))
            }
        }
    }
}

/// Names have no case, as those of HTTP headers; and `CloudEvents` has two ways to write the name of an attribute.
fn is_same(one: &str, other: &str) -> bool {
    match (attribute(one), attribute(other)) {
        (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
        _ => one.eq_ignore_ascii_case(other),
    }
}

fn usable(text: &str, place: &str) -> Result<Entity, Poison> {
    let length = text.len();
    if text.chars().any(char::is_control) {
        Err(Poison::BadEntity(format!("{place} (the entity) holds a control character")))
    } else if length > MAX_ENTITY_BYTES {
        Err(Poison::BadEntity(format!("{place} (the entity) has {length} bytes; the limit is {MAX_ENTITY_BYTES}")))
    } else {
        Ok(text.into())
    }
}

impl FromStr for EntityFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "routing-key" {
            return Ok(Self::RoutingKey);
        }
        let name = header(text).map_err(|wrong| wrong.replace("write ", "write routing-key or "))?;
        if name.eq_ignore_ascii_case(SequenceFrom::DEFAULT) {
            return Err(means_something_else(name));
        }
        Ok(Self::Header(name.into()))
    }
}

impl fmt::Display for EntityFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoutingKey => f.write_str("routing-key"),
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

/// The header with the number in the entity's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceFrom(Arc<str>);

impl SequenceFrom {
    /// Unless told otherwise.
    pub const DEFAULT: &'static str = "sequence";

    /// The header's name.
    #[must_use]
    pub fn header(&self) -> &str {
        &self.0
    }

    /// Whether this is the header.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        is_same(&self.0, name)
    }
}

impl Default for SequenceFrom {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl FromStr for SequenceFrom {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        header(text).map(|name| Self(name.into()))
    }
}

impl fmt::Display for SequenceFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "header:{}", self.0)
    }
}

/// The name in `header:NAME`.
fn header(text: &str) -> Result<&str, String> {
    let name = text.strip_prefix("header:").ok_or("write header:NAME")?;
    if name.is_empty() || name.len() > MAX_ENTITY_BYTES {
        return Err(format!("the name of the header has {} bytes: write header:NAME, with 1 to 255", name.len()));
    }
    if name.chars().any(|letter| letter.is_control() || letter.is_whitespace()) {
        return Err("the name of the header holds a space or a control character: write header:NAME".into());
    }
    if TAKEN.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(means_something_else(name));
    }
    if name.to_ascii_lowercase().starts_with("onceward-") || name.to_ascii_lowercase().starts_with("x-") {
        return Err(format!(
            "headers such as `{name}` are set by brokers and by Onceward: write header:NAME with another"
        ));
    }
    Ok(name)
}

fn means_something_else(name: &str) -> String {
    format!("the header `{name}` means something else: write header:NAME with another")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, text: &str) -> (String, Field) {
        (name.into(), Field::Text(text.into()))
    }

    #[test]
    fn an_entity_is_read_where_the_setting_says() {
        let from: EntityFrom = "header:account".parse().unwrap();
        let headers = [text("Account", "other"), text("account", "a-7")];
        assert_eq!(from.read("orders.created", &headers), Ok("a-7".into()));
        assert_eq!(EntityFrom::RoutingKey.read("orders.created", &headers), Ok("orders.created".into()));
        let missing = Err(Poison::MissingEntityHeader("account".into()));
        let spelled = Poison::EntityHeaderSpelling { wanted: "account".into(), found: "Account".into() };
        assert_eq!(from.read("orders.created", &headers[..1]), Err(spelled));
        assert_eq!(from.read("orders.created", &[]), missing);
        assert_eq!(from.read("orders.created", &[text("account", "")]), missing);
        assert_eq!(EntityFrom::RoutingKey.read("", &headers), Err(Poison::MissingEntity));
        let number = from.read("k", &[("account".into(), Field::Integer(7))]).unwrap_err();
        assert!(
            number.to_string().contains("must be text") && number.to_string().contains("is an integer"),
            "{number}"
        );
        for wrong in ["a\nb".to_owned(), "x".repeat(256)] {
            assert_eq!(from.read("k", &[text("account", &wrong)]).unwrap_err().code(), "bad_entity", "{wrong}");
        }
    }

    #[test]
    fn settings_are_read_back_as_they_are_shown_and_others_are_refused_with_what_to_write() {
        for good in ["routing-key", "header:account", "header:cloudEvents:partitionkey"] {
            assert_eq!(good.parse::<EntityFrom>().unwrap().to_string(), good);
        }
        assert_eq!(
            "header:cloudEvents:sequence".parse::<SequenceFrom>().unwrap().to_string(),
            "header:cloudEvents:sequence"
        );
        assert!(SequenceFrom::default().is("Sequence") && !SequenceFrom::default().is("cloudEvents:sequence"));
        let attribute: SequenceFrom = "header:cloudEvents:sequence".parse().unwrap();
        assert!(attribute.is("cloudEvents_sequence") && !attribute.is("cloudEvents_sequencetype"));
        for wrong in ["header:destination", "header:TraceParent", "header:CC", "header:onceward-x"] {
            assert!(wrong.parse::<SequenceFrom>().unwrap_err().contains("write header:NAME"), "{wrong}");
        }
        for wrong in [
            "",
            "account",
            "header:",
            "header:a b",
            "header:x-death",
            "header:onceward-x",
            "header:Destination",
            "header:Sequence",
            "header:bcc",
        ] {
            let error = wrong.parse::<EntityFrom>().unwrap_err();
            assert!(error.contains("header"), "{wrong}: {error}");
        }
        assert!("account".parse::<EntityFrom>().unwrap_err().contains("routing-key or header:NAME"));
        assert!("sequence".parse::<SequenceFrom>().unwrap_err().contains("write header:NAME"));
    }
}
