//! Whether a node of a cluster is cut off from the others: it answers, keeps its connections, and neither stores nor delivers
//! anything. RabbitMQ up to 4.2 can be told to close them (`pause_minority`); 4.3 has no such setting any more, so that whoever
//! has other nodes to go to finds out by himself.

use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation, Connection};

use super::delay::{self, Due};
use super::topology::Names;
use super::{Heartbeat, Nodes};
use crate::domain::candidate::Token;
use crate::domain::event::{EventId, Partition};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A broker that is alive confirms within milliseconds; one that is busy gets time.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Queues that have to be silent, all of them: one alone may have lost its members.
const QUEUES: u16 = 3;
/// Names no event: the owner of the queue looks for it, finds nothing, and that is all.
const NOTHING: Token = Token { id: EventId(0), attempts: 0 };

/// What is said of such a node.
pub const WHY: &str = "this node of the broker is cut off from the others: it answers, and stores and delivers nothing";

/// Looks at the node of a connection that may publish, as long as that lives; ends when the node is found cut off.
pub async fn until_found(connection: &Connection, names: &Names, partitions: u16) {
    let mut turn = 0;
    while connection.status().connected() {
        tokio::time::sleep(LOOK_EVERY).await;
        turn = (turn + 1) % partitions;
        if is_stored(connection, names, turn).await {
            continue;
        }
        let looks =
            (0..QUEUES).map(|queue| is_stored(connection, names, (turn + queue * partitions / QUEUES) % partitions));
        let is_silent = !join_all(looks).await.contains(&true);
        // A broker that is short of memory or disk holds up whoever publishes, and delivers.
        if is_silent && connection.status().connected() && !connection.status().blocked() {
            return;
        }
    }
}

/// The same for a connection that must not publish: over another one to the node that was connected last. Never ends where there
/// are no other nodes.
pub async fn until_found_beside(nodes: &Nodes, heartbeat: Heartbeat, names: &Names, partitions: u16) {
    if nodes.are_one() {
        return std::future::pending().await;
    }
    loop {
        if let Ok(connection) = nodes.connect_again("onceward look", heartbeat).await {
            until_found(&connection, names, partitions).await;
            let was_lost = !connection.status().connected();
            super::close(&connection, "looked").await;
            if !was_lost {
                return;
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether a partition's due queue takes a message in time. A channel that was refused something is gone, so each look has one.
async fn is_stored(connection: &Connection, names: &Names, partition: u16) -> bool {
    let partition = Partition(partition.into());
    let (exchange, key) = (names.due_exchange(), delay::routing_key(Duration::ZERO, partition));
    let stored = async {
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let (options, body) = (BasicPublishOptions::default(), Due::Wake(NOTHING).write());
        let properties = BasicProperties::default();
        let published = channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties);
        let confirmed = published.await?.await?;
        let _ = channel.close(200, "looked".into()).await;
        Ok::<_, lapin::Error>(matches!(confirmed, Confirmation::Ack(_)))
    };
    // A refusal (a user who may not publish) says nothing about the node.
    tokio::time::timeout(ANSWER_WITHIN, stored).await.is_ok_and(|stored| stored.unwrap_or(true))
}
