//! The consumers of one partition: its events, and its due queue.

use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection};
use tokio::sync::{Semaphore, mpsc};

use super::Intake;
use super::acks::Acks;
use super::reader::Reader;
use crate::broker::delay::Due;
use crate::domain::event::Partition;
use crate::handoff::Notice;
use crate::store::lease::Held;
use crate::store::operator::Verb;

/// Messages of all partitions together that the broker sends ahead of their acknowledgement.
const PREFETCH_IN_ALL: u16 = 2_048;
/// Tokens of a due queue that the broker sends ahead.
const DUE_PREFETCH: u16 = 64;
/// Batches of a partition that are being recorded or acknowledged at one time.
const BATCHES: usize = 4;

/// The messages of one queue.
pub struct Deliveries(lapin::Consumer);

impl Deliveries {
    /// The next message. A queue that is deleted ends its consumer silently: that is an error, too.
    ///
    /// # Errors
    /// Why there are no more.
    pub async fn next(&mut self) -> Result<Delivery, String> {
        match self.0.next().await {
            Some(delivery) => delivery.map_err(|error| error.to_string()),
            None => Err("the broker cancelled a consumer".into()),
        }
    }

    /// What is there already, without waiting.
    pub fn ready_now(&mut self) -> Option<Result<Delivery, String>> {
        self.next().now_or_never().filter(std::result::Result::is_ok)
    }
}

/// Consumers on one partition, under its lease. They have a channel each: what it brings is in the order of its delivery
/// tags, so that one acknowledgement can stand for many.
pub struct Consumer {
    held: Held,
    channels: [Channel; 2],
    events: Deliveries,
    due: Deliveries,
    reader: Reader,
    recorded: mpsc::Receiver<super::acks::Batch>,
    acks: Acks,
    notices: mpsc::Sender<Notice>,
}

impl Consumer {
    /// Begins to consume.
    ///
    /// # Errors
    /// lapin's.
    pub async fn open(
        connection: &Connection,
        intake: &Intake,
        held: Held,
        bodies: &Arc<Semaphore>,
    ) -> lapin::Result<Self> {
        let partition = held.partition();
        // The same for every worker at every time: so whoever comes next takes all that a dead one's connection gave
        // back in one piece, and the queue keeps its order.
        let prefetch = (PREFETCH_IN_ALL / intake.partitions).clamp(8, 256);
        let event_channel = channel(connection, prefetch).await?;
        let due_channel = channel(connection, DUE_PREFETCH).await?;
        let events = consume(&event_channel, &intake.names.partition(partition)).await?;
        let due = consume(&due_channel, &intake.names.due(partition)).await?;
        let (batches, recorded) = mpsc::channel(BATCHES);
        let reader = Reader {
            terms: intake.terms.clone(),
            commands: intake.commands.clone(),
            hosts: intake.hosts.clone(),
            bodies: bodies.clone(),
            held: held.clone(),
            batches,
        };
        let acks = Acks { publisher: intake.publisher.clone(), names: intake.names.clone() };
        let channels = [event_channel, due_channel];
        let notices = intake.notices.clone();
        Ok(Self { held, channels, events, due, reader, recorded, acks, notices })
    }

    /// Consumes until the lease is closed; then what was taken in is recorded and acknowledged, and the rest goes back to
    /// its queue.
    ///
    /// # Errors
    /// Why the connection can't be used any more.
    pub async fn run(self) -> Result<(), String> {
        let Self { held, channels, events, due, reader, recorded, acks, notices } = self;
        let lease = held.lease();
        let reading = async {
            tokio::select! {
                biased;
                () = lease.closed() => Ok(()),
                ended = reader.run(events) => ended,
            }
        };
        let passing_on = async {
            tokio::select! {
                biased;
                () = lease.closed() => Ok(()),
                ended = pass_on(due, held.partition(), notices) => ended,
            }
        };
        // The reader's end is the end of the batches, and so of their acknowledgement.
        let ended = tokio::try_join!(reading, passing_on, acks.run(recorded));
        match ended {
            Err(_) if lease.is_lost() => {}
            ended => drop(ended?),
        }
        for channel in channels {
            channel.close(200, "another owner follows".into()).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// Passes tokens and operators' decisions on to dispatch.
async fn pass_on(mut due: Deliveries, partition: Partition, notices: mpsc::Sender<Notice>) -> Result<(), String> {
    loop {
        let delivery = due.next().await?;
        let notice = match Due::read(&delivery.data) {
            Some(Due::Wake(token)) => Some(Notice::Due(partition, token)),
            Some(Due::Redrive(id)) => Some(Notice::Operate(partition, id, Verb::Redrive)),
            Some(Due::Skip(id)) => Some(Notice::Operate(partition, id, Verb::Skip)),
            None => {
                tracing::warn!(%partition, "a message in the due queue is none of ours; it is removed");
                None
            }
        };
        if let Some(notice) = notice
            && notices.send(notice).await.is_err()
        {
            return Ok(());
        }
        delivery.ack(BasicAckOptions::default()).await.map_err(|error| error.to_string())?;
    }
}

async fn channel(connection: &Connection, prefetch: u16) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    Ok(channel)
}

async fn consume(channel: &Channel, queue: &str) -> lapin::Result<Deliveries> {
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    channel.basic_consume(queue.into(), "".into(), options, arguments).await.map(Deliveries)
}
