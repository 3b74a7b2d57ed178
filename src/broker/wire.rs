//! Between AMQP's types and the contract's.

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::protocol::basic::{gen_properties, parse_properties};
use lapin::types::{AMQPValue, FieldTable};

use crate::domain::contract::{Field, Message};

/// Room for the properties of most messages, so that they are written in one piece of memory.
const PROPERTIES: usize = 256;

/// A message as the contract reads it. The properties are kept whole, in wire format.
#[must_use]
pub fn message(routing_key: &str, properties: &BasicProperties, body: Vec<u8>) -> Message {
    Message {
        routing_key: routing_key.into(),
        message_id: properties.message_id().as_ref().map(ToString::to_string),
        content_type: properties.content_type().as_ref().map(ToString::to_string),
        content_encoding: properties.content_encoding().as_ref().map(ToString::to_string),
        headers: properties.headers().as_ref().map(fields).unwrap_or_default(),
        properties: encode(properties),
        body: body.into(),
    }
}

/// The properties in wire format (AMQP 0-9-1, 4.2.6.1).
#[must_use]
pub fn encode(properties: &BasicProperties) -> Bytes {
    let buffer = cookie_factory::gen_simple(gen_properties(properties), Vec::with_capacity(PROPERTIES));
    buffer.unwrap_or_default().into()
}

/// Properties from wire format; empty ones if it can't be read, which only a hand on the database can bring about.
#[must_use]
pub fn decode(properties: &[u8]) -> BasicProperties {
    parse_properties(properties).map(|(_, properties)| properties).unwrap_or_default()
}

fn fields(table: &FieldTable) -> Vec<(String, Field)> {
    table.inner().iter().map(|(name, value)| (name.to_string(), field(value))).collect()
}

fn field(value: &AMQPValue) -> Field {
    match value {
        AMQPValue::LongString(text) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => Field::Text(text.into()),
            Err(_) => Field::Other("text that is not UTF-8"),
        },
        AMQPValue::ShortString(text) => Field::Text(text.to_string()),
        AMQPValue::ShortShortInt(number) => Field::Integer((*number).into()),
        AMQPValue::ShortShortUInt(number) => Field::Integer((*number).into()),
        AMQPValue::ShortInt(number) => Field::Integer((*number).into()),
        AMQPValue::ShortUInt(number) => Field::Integer((*number).into()),
        AMQPValue::LongInt(number) => Field::Integer((*number).into()),
        AMQPValue::LongUInt(number) => Field::Integer((*number).into()),
        AMQPValue::LongLongInt(number) => Field::Integer(*number),
        AMQPValue::Boolean(truth) => Field::Boolean(*truth),
        AMQPValue::Float(_) | AMQPValue::Double(_) => Field::Other("a floating-point number"),
        AMQPValue::DecimalValue(_) => Field::Other("a decimal number"),
        AMQPValue::FieldArray(_) => Field::Other("an array"),
        AMQPValue::Timestamp(seconds) => Field::Timestamp(*seconds),
        AMQPValue::FieldTable(_) => Field::Other("a table"),
        AMQPValue::ByteArray(_) => Field::Other("a byte array"),
        AMQPValue::Void => Field::Other("void"),
    }
}
