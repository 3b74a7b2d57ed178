//! RabbitMQ: the transport and the timer. Postgres is the truth.

pub mod delay;
pub mod probe;
pub mod publisher;
pub mod topology;
pub mod wire;

use std::time::Duration;

use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use crate::config::SecretUrl;

/// Connects, under a name that the broker's own tools show.
///
/// lapin's recovery stays off: each user of a connection owns its reconnect loop.
///
/// # Errors
/// lapin's, if the broker can't be reached or refuses.
pub async fn connect(url: &SecretUrl, name: &str, heartbeat: Heartbeat) -> Result<Connection, lapin::Error> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let invalid = |error: String| std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
    let mut uri: AMQPUri = url.reveal().parse().map_err(invalid)?;
    uri.query.heartbeat.get_or_insert(heartbeat.0);
    Connection::connect_uri(uri, properties).await
}

/// Seconds between two signs of life; `?heartbeat=` in the URL overrides it.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat(u16);

impl Heartbeat {
    /// The most that is used.
    const LONGEST: u16 = 5;

    /// Well under the lease: the broker gives a partition's messages to its next owner only after it has seen that the
    /// former one's connection is dead, which takes it up to three heartbeats.
    #[must_use]
    pub fn under(lease: Duration) -> Self {
        Self(u16::try_from(lease.as_secs() / 5).unwrap_or(u16::MAX).clamp(1, Self::LONGEST))
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self(Self::LONGEST)
    }
}
