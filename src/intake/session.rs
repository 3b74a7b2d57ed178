//! One connection's worth of consuming.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::SelectAll;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::Intake;
use super::acks::Acks;
use super::reader::Reader;
use crate::broker::delay::Due;
use crate::broker::topology::Names;
use crate::domain::event::Partition;
use crate::handoff::Notice;
use crate::store::lease::Lease;
use crate::store::operator::Verb;

/// Messages of all partitions together that the broker sends ahead of their acknowledgement.
const PREFETCH_IN_ALL: usize = 2_048;
/// Tokens of a due queue that the broker sends ahead.
const DUE_PREFETCH: u16 = 64;
/// Batches that are being recorded or acknowledged at one time.
const BATCHES: usize = 8;
/// How long the end of a session waits for acknowledgements of what is recorded; without them, messages come again as
/// duplicates.
const ACK_WITHIN: Duration = Duration::from_secs(5);

/// What consumers bring, with the partition of each.
pub type Deliveries = SelectAll<Pin<Box<dyn Stream<Item = (Partition, lapin::Result<Delivery>)> + Send>>>;

/// Consumers on all partitions that are ours.
pub struct Session {
    connection: Connection,
    events: Deliveries,
    due: Deliveries,
}

impl Session {
    /// Consumes from the queues of each partition. A partition's events have a channel of their own: what it brings is in
    /// the order of its delivery tags, so that one acknowledgement can stand for many.
    ///
    /// # Errors
    /// lapin's.
    pub async fn open(connection: Connection, names: &Names, leases: &[Arc<Lease>]) -> lapin::Result<Self> {
        let share = (PREFETCH_IN_ALL / leases.len().max(1)).clamp(8, 256);
        let due_channel = channel(&connection, DUE_PREFETCH).await?;
        let (mut events, mut due) = (SelectAll::new(), SelectAll::new());
        for partition in leases.iter().map(|lease| lease.partition) {
            let event_channel = channel(&connection, u16::try_from(share).unwrap_or(8)).await?;
            events.push(consume(&event_channel, partition, &names.partition(partition)).await?);
            due.push(consume(&due_channel, partition, &names.due(partition)).await?);
        }
        Ok(Self { connection, events, due })
    }

    /// Consumes until `stop` or until other partitions are ours; with a reason, if the connection breaks.
    ///
    /// # Errors
    /// The reason.
    pub async fn run(
        self,
        intake: &mut Intake,
        leases: &[Arc<Lease>],
        bodies: &Arc<Semaphore>,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let (batches, recorded) = mpsc::channel(BATCHES);
        let acks = Acks { publisher: intake.publisher.clone(), names: intake.names.clone() };
        let mut acks = tokio::spawn(acks.run(recorded));
        let leases: HashMap<Partition, Arc<Lease>> =
            leases.iter().map(|lease| (lease.partition, lease.clone())).collect();
        let reader = Reader {
            terms: intake.terms.clone(),
            commands: intake.commands.clone(),
            hosts: intake.hosts.clone(),
            bodies: bodies.clone(),
            leases,
            batches,
        };
        let result = tokio::select! {
            () = stop.cancelled() => Ok(()),
            _ = intake.owned.changed() => Ok(()),
            ended = reader.run(self.events) => ended,
            ended = pass_on(self.due, intake.notices.clone()) => ended,
            ended = &mut acks => return Err(ended.map_or_else(|error| error.to_string(), |ended| ended.err().unwrap_or_default())),
        };
        // The reader is gone, and with it the sender of batches: what is recorded is acknowledged, then acks ends.
        if tokio::time::timeout(ACK_WITHIN, &mut acks).await.is_err() {
            acks.abort();
        }
        let _ = self.connection.close(200, "stopped".into()).await;
        result
    }
}

/// Passes tokens and operators' decisions on to dispatch.
async fn pass_on(mut due: Deliveries, notices: mpsc::Sender<Notice>) -> Result<(), String> {
    while let Some((partition, delivery)) = due.next().await {
        let delivery = delivery.map_err(|error| error.to_string())?;
        let notice = match Due::read(&delivery.data) {
            Some(Due::Wake(token)) => Notice::Due(partition, token),
            Some(Due::Redrive(id)) => Notice::Operate(partition, id, Verb::Redrive),
            Some(Due::Skip(id)) => Notice::Operate(partition, id, Verb::Skip),
            None => {
                tracing::warn!(%partition, "a message in the due queue is none of ours; it is removed");
                delivery.ack(BasicAckOptions::default()).await.map_err(|error| error.to_string())?;
                continue;
            }
        };
        if notices.send(notice).await.is_err() {
            return Ok(());
        }
        delivery.ack(BasicAckOptions::default()).await.map_err(|error| error.to_string())?;
    }
    Err("the broker cancelled the consumers of the due queues".into())
}

async fn channel(connection: &Connection, prefetch: u16) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    Ok(channel)
}

async fn consume(
    channel: &Channel,
    partition: Partition,
    queue: &str,
) -> lapin::Result<Pin<Box<dyn Stream<Item = (Partition, lapin::Result<Delivery>)> + Send>>> {
    let consumer =
        channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), FieldTable::default()).await?;
    // A queue that is deleted ends its consumer silently: that has to end the session, as any error does.
    let cancelled = lapin::Error::from(lapin::ErrorKind::FutureCompleted);
    let end = futures_util::stream::once(async move { Err(cancelled) });
    Ok(consumer.chain(end).map(move |delivery| (partition, delivery)).boxed())
}

/// What is there already, without waiting.
pub fn ready_now(deliveries: &mut Deliveries) -> Option<(Partition, lapin::Result<Delivery>)> {
    deliveries.next().now_or_never().flatten()
}
