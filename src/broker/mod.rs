//! RabbitMQ: the transport and the timer. Postgres is the truth.

pub mod delay;
pub mod probe;
pub mod publisher;
pub mod topology;
pub mod wire;

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
    Connection::connect(url.reveal(), properties).await
}
