//! RabbitMQ: the transport and the timer. Postgres is the truth.

pub mod delay;
pub mod probe;
pub mod publisher;
pub mod topology;
pub mod wire;

use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use crate::config::SecretUrl;

/// Connects, under a name that the broker's own tools show.
///
/// lapin's recovery stays off: each user of a connection owns its reconnect loop.
///
/// # Errors
/// lapin's, if the broker can't be reached or refuses.
pub async fn connect(url: &SecretUrl, name: &str) -> Result<Connection, lapin::Error> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let invalid = |error: String| std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
    let mut uri: AMQPUri = url.reveal().parse().map_err(invalid)?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
    Connection::connect_uri(uri, properties).await
}

/// Well under the lease: the broker gives a partition's messages to its next owner only after it has seen that the
/// former one's connection is dead. `?heartbeat=` in the URL overrides it.
const HEARTBEAT_SECONDS: u16 = 5;
