//! Publishing with confirms, over a connection of its own: the broker blocks a connection that publishes when it runs
//! short of memory or disk, and acknowledgements must not wait behind that.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use super::topology::{self, Names};
use super::{Heartbeat, Nodes, cut_off};
use crate::reconnect::Delays;

/// The longest wait for a confirm of what may get lost; a broker that is alive answers within milliseconds.
const CONFIRM_WITHIN: Duration = Duration::from_secs(30);
/// How long a connection may take to be opened; not every request of one that breaks has an end.
const OPEN_WITHIN: Duration = Duration::from_secs(30);
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
    /// The connection was lost before the broker had confirmed it.
    #[error("the connection to the broker was lost before it had confirmed the message")]
    Lost,
    /// The broker said nothing for too long.
    #[error("the broker did not confirm within {} s", CONFIRM_WITHIN.as_secs())]
    TimedOut,
}

/// Messages that must not get lost and wait for their confirm at one time, each on a channel of its own.
const CAREFUL_CHANNELS: usize = 16;

/// How often exchanges and queues that only we publish to are looked for: somebody may have deleted them.
const LOOK_FOR_THEM: Duration = Duration::from_secs(15);

/// The publishing connection.
struct Link {
    connection: Connection,
    /// For many at a time: what the broker can't route is dropped.
    quick: Channel,
    /// For one at a time: lapin hands a message that the broker returned to whichever confirm of the channel comes next,
    /// so that only on a channel with one publish under way it is known whose it is.
    careful: Vec<Mutex<Channel>>,
    turn: AtomicUsize,
    /// The connection is lost. lapin does not end every wait of one that breaks.
    lost: CancellationToken,
}

/// A handle to the publishing connection; clones share it.
#[derive(Clone)]
pub struct Publisher {
    link: watch::Receiver<Option<Arc<Link>>>,
}

impl PublishError {
    /// Whether the broker has looked at the message and does not take it: to try the same again is of no use.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Broker(error) => matches!(error.kind(), lapin::ErrorKind::ProtocolError(_)),
            Self::Unroutable | Self::Nacked => true,
            Self::NotConnected | Self::Lost | Self::TimedOut => false,
        }
    }
}

impl Publisher {
    /// A publisher, and the task that keeps it connected until `stop`.
    pub fn new(nodes: Nodes, stop: CancellationToken) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (sender, link) = watch::channel(None);
        (Self { link }, stay_connected(nodes, sender, stop))
    }

    /// Declares again what somebody has deleted of the exchanges and queues, as long as it runs.
    pub async fn mend_topology(self, names: Names, partitions: u16) {
        loop {
            tokio::time::sleep(LOOK_FOR_THEM).await;
            if let Ok(link) = self.link() {
                let mending = topology::mend(&link.connection, &names, partitions);
                let _ = tokio::time::timeout(OPEN_WITHIN, link.lost.run_until_cancelled(mending)).await;
            }
        }
    }

    /// Leaves nodes that are cut off from the others, as long as it runs.
    pub async fn leave_useless_nodes(self, names: Names, partitions: u16) {
        let mut links = self.link.clone();
        loop {
            let link = self.link.borrow().clone();
            if let Some(link) = link {
                let found = cut_off::until_found(&link.connection, &names, partitions);
                if link.lost.run_until_cancelled(found).await.is_some() && link.connection.status().connected() {
                    tracing::warn!("nothing is published: {}; another one is tried", cut_off::WHY);
                    super::close(&link.connection, "cut off").await;
                    link.lost.cancelled().await;
                }
            }
            if links.changed().await.is_err() {
                return;
            }
        }
    }

    /// Declares the dead-letter exchange and its queue, if they are gone.
    pub async fn mend_dead_letters(&self, names: &Names) {
        if let Ok(link) = self.link() {
            let mending = topology::mend_dead_letters(&link.connection, names);
            let _ = tokio::time::timeout(OPEN_WITHIN, link.lost.run_until_cancelled(mending)).await;
        }
    }

    /// Waits until there is a connection.
    pub async fn connected(&self) {
        let _ = self.link.clone().wait_for(Option::is_some).await;
    }

    /// Publishes a persistent message and waits until the broker has confirmed it. A message that no queue takes is
    /// dropped all the same.
    ///
    /// # Errors
    /// If it is not known to have reached the broker.
    pub async fn send(&self, exchange: &str, routing_key: &str, body: &[u8]) -> Result<(), PublishError> {
        let link = self.link()?;
        let properties = BasicProperties::default();
        let published = publish(&link.quick, exchange, routing_key, false, properties, body);
        tokio::time::timeout(CONFIRM_WITHIN, published).await.unwrap_or(Err(PublishError::TimedOut))
    }

    /// Publishes a persistent message and waits until the broker has confirmed that it is in a queue: as long as the connection
    /// lives, for a broker that is slow has it all the same, and a second one would be a copy.
    ///
    /// # Errors
    /// If it is not known to be stored in a queue.
    pub async fn store(
        &self,
        exchange: &str,
        routing_key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<(), PublishError> {
        let link = self.link()?;
        let turn = link.turn.fetch_add(1, Ordering::Relaxed) % link.careful.len();
        let mut channel = link.careful[turn].lock().await;
        if !channel.status().connected() {
            // The broker refused what was published on it, and closed it; the others go on.
            let opened = tokio::time::timeout(OPEN_WITHIN, confirming(&link.connection)).await;
            *channel = opened.map_err(|_| PublishError::TimedOut)??;
        }
        let published = publish(&channel, exchange, routing_key, true, properties, body);
        link.lost.run_until_cancelled(published).await.unwrap_or(Err(PublishError::Lost))
    }

    fn link(&self) -> Result<Arc<Link>, PublishError> {
        self.link.borrow().clone().ok_or(PublishError::NotConnected)
    }
}

async fn publish(
    channel: &Channel,
    exchange: &str,
    routing_key: &str,
    mandatory: bool,
    properties: BasicProperties,
    body: &[u8],
) -> Result<(), PublishError> {
    let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
    let properties = properties.with_delivery_mode(PERSISTENT);
    let confirmed =
        async { channel.basic_publish(exchange.into(), routing_key.into(), options, body, properties).await?.await };
    match confirmed.await? {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(_)) => Err(PublishError::Unroutable),
        Confirmation::Nack(_) | Confirmation::NotRequested => Err(PublishError::Nacked),
    }
}

async fn stay_connected(mut nodes: Nodes, sender: watch::Sender<Option<Arc<Link>>>, stop: CancellationToken) {
    let mut delays = Delays::default();
    let _ = stop
        .run_until_cancelled(async {
            loop {
                // A failure is not logged here: the consuming connection says the same, once.
                if let Ok(Ok(link)) = tokio::time::timeout(OPEN_WITHIN, open(&mut nodes)).await {
                    delays.reset();
                    let link = Arc::new(link);
                    sender.send_replace(Some(link.clone()));
                    until_closed(&link).await;
                    sender.send_replace(None);
                    link.lost.cancel();
                }
                delays.wait().await;
            }
        })
        .await;
}

async fn open(nodes: &mut Nodes) -> Result<Link, lapin::Error> {
    let connection = nodes.connect("onceward publisher", Heartbeat::default()).await?;
    let mut careful = Vec::with_capacity(CAREFUL_CHANNELS);
    for _ in 0..CAREFUL_CHANNELS {
        careful.push(Mutex::new(confirming(&connection).await?));
    }
    let quick = confirming(&connection).await?;
    Ok(Link { connection, quick, careful, turn: AtomicUsize::new(0), lost: CancellationToken::new() })
}

async fn confirming(connection: &Connection) -> Result<Channel, lapin::Error> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// lapin tells of a lost connection only to those who use it; its state is looked at four times a second. The channel for many
/// at a time ends the connection with it.
async fn until_closed(link: &Link) {
    while link.connection.status().connected() && link.quick.status().connected() {
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
