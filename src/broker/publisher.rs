//! Publishing with confirms, over a connection of its own: the broker blocks a connection that publishes when it runs
//! short of memory or disk, and acknowledgements must not wait behind that.

use std::sync::Arc;
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::SecretUrl;
use crate::reconnect::Delays;

/// The longest wait for a confirm; a broker that is alive answers within milliseconds.
const CONFIRM_WITHIN: Duration = Duration::from_secs(30);
/// AMQP 0-9-1: the message survives a restart of the broker.
const PERSISTENT: u8 = 2;

/// Why a message is not known to be with the broker. It may have arrived all the same.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No connection at the moment.
    #[error("not connected to the broker")]
    NotConnected,
    /// The connection broke.
    #[error("{0}")]
    Broker(#[from] lapin::Error),
    /// The broker refused to store it.
    #[error("the broker refused the message")]
    Nacked,
    /// No queue takes it.
    #[error("no queue is bound for the message")]
    Unroutable,
    /// The broker said nothing for too long.
    #[error("the broker did not confirm within {} s", CONFIRM_WITHIN.as_secs())]
    TimedOut,
}

/// A handle to the publishing connection; clones share it.
#[derive(Clone)]
pub struct Publisher {
    channel: watch::Receiver<Option<Arc<Channel>>>,
}

impl Publisher {
    /// A publisher, and the task that keeps it connected until `stop`.
    pub fn new(url: SecretUrl, stop: CancellationToken) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, channel) = watch::channel(None);
        (Self { channel }, stay_connected(url, sender, stop))
    }

    /// Waits until there is a connection.
    pub async fn connected(&self) {
        let _ = self.channel.clone().wait_for(Option::is_some).await;
    }

    /// Publishes a persistent message and waits until the broker has confirmed it.
    ///
    /// # Errors
    /// If it is not known to be stored in a queue.
    pub async fn publish(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), PublishError> {
        let channel = self.channel.borrow().clone().ok_or(PublishError::NotConnected)?;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = properties.with_delivery_mode(PERSISTENT);
        let confirmed = async {
            channel.basic_publish(exchange.into(), routing_key.into(), options, body, properties).await?.await
        };
        match tokio::time::timeout(CONFIRM_WITHIN, confirmed).await {
            Err(_) => Err(PublishError::TimedOut),
            Ok(Err(error)) => Err(error.into()),
            Ok(Ok(Confirmation::Ack(None))) => Ok(()),
            Ok(Ok(Confirmation::Ack(Some(_)))) => Err(PublishError::Unroutable),
            Ok(Ok(Confirmation::Nack(_) | Confirmation::NotRequested)) => Err(PublishError::Nacked),
        }
    }
}

async fn stay_connected(url: SecretUrl, sender: watch::Sender<Option<Arc<Channel>>>, stop: CancellationToken) {
    let mut delays = Delays::default();
    let _ = stop
        .run_until_cancelled(async {
            loop {
                // A failure is not logged here: the consuming connection says the same, once.
                if let Ok((connection, channel)) = open(&url).await {
                    delays.reset();
                    sender.send_replace(Some(channel.clone()));
                    until_closed(&connection, &channel).await;
                    sender.send_replace(None);
                }
                delays.wait().await;
            }
        })
        .await;
}

async fn open(url: &SecretUrl) -> Result<(Connection, Arc<Channel>), lapin::Error> {
    let connection = super::connect(url, "onceward publisher").await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, Arc::new(channel)))
}

/// lapin tells of a lost connection only to those who use it; its state is looked at four times a second.
async fn until_closed(connection: &Connection, channel: &Channel) {
    while connection.status().connected() && channel.status().connected() {
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// `properties` with more headers; one of the same name is replaced.
#[must_use]
pub fn with_headers<const N: usize>(properties: BasicProperties, more: [(&str, AMQPValue); N]) -> BasicProperties {
    let mut headers = properties.headers().clone().unwrap_or_default();
    for (name, value) in more {
        headers.insert(name.into(), value);
    }
    properties.with_headers(headers)
}
