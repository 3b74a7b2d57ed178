//! What kind of broker answers: its product and version, from the first frame that it sends.
//!
//! lapin keeps the server's properties to itself, so this room says the first two lines of the protocol on its own.

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use lapin::types::parsing::parse_field_table;
use lapin::types::{AMQPValue, FieldTable};

use crate::config::SecretUrl;
use crate::config::nodes::BrokerUrls;

/// AMQP 0-9-1, 4.2.2: the protocol header.
const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
/// The largest first frame that is read; RabbitMQ's is about 500 bytes.
const LONGEST_FRAME: usize = 64 * 1024;
/// Class 10 (connection), method 10 (start).
const START: [u8; 4] = [0, 10, 0, 10];

/// The broker's own words about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerInfo {
    /// Such as `RabbitMQ`.
    pub product: String,
    /// Such as `3.10.8`.
    pub version: String,
}

impl BrokerInfo {
    /// The first two numbers of the version.
    #[must_use]
    pub fn release(&self) -> (u32, u32) {
        let mut numbers = self.version.split(['.', '-', '+']).map(|part| part.parse::<u32>().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    /// Whether the broker has what the topology needs: at-least-once dead-lettering came with RabbitMQ 3.10.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        self.product == "RabbitMQ" && self.release() >= (3, 10)
    }

    /// Whether it deals by x-modulus-hash, and the same for ever.
    #[must_use]
    pub fn has_modulus_hash(&self) -> bool {
        self.product == "RabbitMQ" && self.release() >= (4, 3)
    }
}

/// Asks the broker's nodes, until one answers. None if none says: then nothing is checked.
pub async fn ask(urls: &BrokerUrls) -> Option<BrokerInfo> {
    for url in urls.all() {
        if let Ok(Some(info)) = tokio::time::timeout(super::NODE_WITHIN, ask_node(url)).await {
            return Some(info);
        }
    }
    None
}

async fn ask_node(url: &SecretUrl) -> Option<BrokerInfo> {
    let (uri, tls) = super::way(url).ok()?;
    let mut stream = super::gatekeeper::open(&uri, &tls).await.ok()?;
    stream.write_all(PROTOCOL_HEADER).await.ok()?;
    // Frame: type (1 byte), channel (2), size (4), payload, end (1).
    let mut head = [0; 7];
    stream.read_exact(&mut head).await.ok()?;
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    let mut payload = vec![0; size.min(LONGEST_FRAME)];
    stream.read_exact(&mut payload).await.ok()?;
    // The method's arguments begin with two bytes of protocol version, then the server's properties.
    let arguments = payload.strip_prefix(&START)?.get(2..)?;
    let (_, properties) = parse_field_table(arguments).ok()?;
    Some(BrokerInfo { product: text(&properties, "product")?, version: text(&properties, "version")? })
}

fn text(properties: &FieldTable, name: &str) -> Option<String> {
    match properties.inner().get(name)? {
        AMQPValue::LongString(text) => Some(text.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rabbitmq_is_supported_from_3_10_on() {
        let table = [
            ("RabbitMQ", "3.10.8", true),
            ("RabbitMQ", "3.9.29", false),
            ("RabbitMQ", "4.0.0-rc.1", true),
            ("RabbitMQ", "4.2.1", true),
            ("RabbitMQ", "", false),
            ("LavinMQ", "4.0.0", false),
        ];
        for (product, version, supported) in table {
            let info = BrokerInfo { product: product.into(), version: version.into() };
            assert_eq!(info.is_supported(), supported, "{product} {version}");
        }
    }
}
