//! The consumers of one partition: its events, and its due queue.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Acker, Channel, Connection};
use tokio::sync::{mpsc, oneshot};

use super::Intake;
use super::acks::Acks;
use super::deliveries::Deliveries;
use super::reader::Reader;
use crate::broker::dead_letters::DeadLetters;
use crate::broker::delay::{Due, failed_at};
use crate::broker::gatekeeper::ahead::{Ahead, Watched};
use crate::broker::topology::Names;
use crate::clock;
use crate::domain::event::Partition;
use crate::domain::operator::{Decided, Verb};
use crate::handoff::Notice;
use crate::lease::Held;

/// Messages of all partitions together that the broker sends ahead of their acknowledgement.
const PREFETCH_IN_ALL: u16 = 2_048;
/// Tokens of a due queue that the broker sends ahead.
const DUE_PREFETCH: u16 = 64;
/// The largest message in a due queue, in bytes: all of ours are smaller.
const DUE_BYTES: usize = 64 * 1024;
/// Batches of a partition that are being recorded or acknowledged at one time.
const BATCHES: usize = 4;
/// A broker that is alive answers within milliseconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How often a new owner looks whether the former one has left the queue.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long the broker may take from counting a consumer out to taking its messages back.
const TAKE_BACK: Duration = Duration::from_millis(250);
/// So often in a row a queue is seen to have no consumer.
const LOOKS_ALONE: u32 = 3;
/// A broker that is slow to answer is as slow to take messages back: it gets this many times its slowest answer.
const TIMES_ITS_ANSWER: u32 = 20;
/// But no more than this.
const TAKE_BACK_AT_MOST: Duration = Duration::from_secs(5);
/// How often a consumer looks whether its lease still counts.
const LOOK_AT_LEASE: Duration = Duration::from_millis(200);
/// After so many looks, somebody should know.
const LOOKS_BEFORE_WARNING: u32 = 1_500;

/// Consumers on one partition, under its lease. They have a channel each: what it brings is in the order of its delivery
/// tags, so that one acknowledgement can stand for many.
pub struct Consumer {
    broker: Answers,
    held: Held,
    names: Names,
    events: Channel,
    due: Channel,
    tokens: Watched,
    reader: Reader,
    recorded: mpsc::Receiver<super::acks::Batch>,
    acks: Acks,
    notices: mpsc::Sender<Notice>,
}

impl Consumer {
    /// Opens the channels.
    ///
    /// # Errors
    /// Why the connection can't be used.
    pub async fn open(
        connection: &Connection,
        intake: &Intake,
        held: Held,
        ahead: &Arc<Ahead>,
    ) -> Result<Self, String> {
        // The same for every worker at every time: so whoever comes next takes all that a former one gave back in one
        // piece, and the queue keeps its order.
        let prefetch = (PREFETCH_IN_ALL / intake.partitions).clamp(8, 256);
        let (batches, recorded) = mpsc::channel(BATCHES);
        let broker = Answers(ahead.clone());
        let events = broker.answer(channel(connection, prefetch)).await?;
        let due = broker.answer(channel(connection, DUE_PREFETCH)).await?;
        let reader = Reader {
            ahead: ahead.watch(events.id(), intake.terms.body_limit),
            terms: intake.terms.clone(),
            receivers: intake.receivers.clone(),
            arrived: intake.arrived.clone(),
            origin: intake.origin.clone(),
            held: held.clone(),
            batches,
        };
        Ok(Self {
            broker,
            tokens: ahead.watch(due.id(), DUE_BYTES),
            events,
            due,
            reader,
            recorded,
            acks: Acks {
                letters: DeadLetters { publisher: intake.publisher.clone(), names: intake.names.clone() },
                at_once: usize::from(prefetch / 2),
            },
            names: intake.names.clone(),
            notices: intake.notices.clone(),
            held,
        })
    }

    /// Consumes until the lease is closed; then what was ingested is recorded and acknowledged, and the rest goes back to
    /// its queue. If the lease ends without a word (the database is not reached), another worker may have it, and waits for the
    /// end of this consumer: then everything goes back at once. Gives the partition if it should be consumed again when the
    /// lease is renewed.
    ///
    /// # Errors
    /// Why the connection can't be used any more.
    pub async fn run(self) -> Result<Option<Partition>, String> {
        let (held, partition) = (self.held.clone(), self.held.partition());
        let (events, due) = (self.events.clone(), self.due.clone());
        let broker = Answers(self.broker.0.clone());
        until_covered(&held).await;
        let again = tokio::select! {
            ended = self.consume() => ended.map(|()| None)?,
            () = until_lapsed(&held) => Some(partition),
        };
        for channel in [events, due] {
            broker.answer(channel.close(200, "another owner follows".into())).await?;
        }
        Ok(again)
    }

    async fn consume(self) -> Result<(), String> {
        let Self { broker, held, names, events, due, tokens: ahead, reader, recorded, acks, notices } = self;
        let (lease, partition) = (held.lease(), held.partition());
        let (queue, due_queue) = (names.partition(partition), names.due(partition));
        let consuming = async {
            // Only a former owner's end is known to be over; our own consumer may have ended a moment ago.
            let gracefully = lease.graceful && !lease.was_alone();
            until_alone(&broker, &events, &queue, gracefully).await?;
            lease.note_alone();
            // The events last: from then on answers come behind messages, and these have to be taken.
            let tokens = consume(&broker, &due, &due_queue).await?;
            let deliveries = consume(&broker, &events, &queue).await?;
            tokio::try_join!(reader.run(deliveries), pass_on(tokens, ahead, partition, notices)).map(drop)
        };
        let until_closed = async {
            tokio::select! {
                biased;
                () = lease.closed() => Ok(()),
                ended = consuming => ended,
            }
        };
        // The reader's end is the end of the batches, and so of their acknowledgement.
        let ended = tokio::try_join!(until_closed, acks.run(recorded));
        match ended {
            Err(_) if lease.is_lost() => Ok(()),
            ended => ended.map(drop),
        }
    }
}

/// Waits until the lease counts, or nothing may begin under it any more.
async fn until_covered(held: &Held) {
    while !held.covers(clock::now()) && !held.lease().is_closed() {
        tokio::time::sleep(LOOK_AT_LEASE).await;
    }
}

/// Waits until the lease does not count any more: it was not renewed in time.
async fn until_lapsed(held: &Held) {
    while held.covers(clock::now()) || held.is_lost() {
        tokio::time::sleep(LOOK_AT_LEASE).await;
    }
}

/// Waits until nobody consumes from a queue any more.
///
/// When a single active consumer leaves, RabbitMQ lets the next one begin *before* it takes back what the former one had
/// not acknowledged: the next one would get what is behind that first. Only where nobody waits, the queue keeps its order.
///
/// Even then the broker gets a moment more: it counts a consumer out a little before it has taken everything back. After
/// a graceful handover it has had one already. How long it takes depends on how busy it is, which its answers show.
async fn until_alone(broker: &Answers, channel: &Channel, queue: &str, graceful: bool) -> Result<(), String> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let (mut looks, mut alone, mut slowest) = (0_u32, 0, Duration::ZERO);
    while alone < LOOKS_ALONE {
        if looks > 0 {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let asked = clock::now();
        let declared = broker.answer(channel.queue_declare(queue.into(), options, FieldTable::default())).await?;
        slowest = slowest.max(clock::now().saturating_sub(asked));
        alone = if declared.consumer_count() == 0 { alone + 1 } else { 0 };
        looks += 1;
        if looks == LOOKS_BEFORE_WARNING {
            tracing::warn!(queue, "another consumer holds the queue; the worker waits for its end");
        }
    }
    tokio::time::sleep(take_back(graceful, slowest)).await;
    Ok(())
}

/// How long a broker whose slowest answer took this long gets to take messages back.
fn take_back(graceful: bool, slowest: Duration) -> Duration {
    let least = if graceful { LOOK_AGAIN } else { TAKE_BACK };
    least.max(slowest.saturating_mul(TIMES_ITS_ANSWER)).min(TAKE_BACK_AT_MOST)
}

/// Passes tokens and operators' decisions on to dispatch. A lost token is found by a sweep; a decision is acknowledged when it is
/// recorded, so that a worker that dies before leaves it to the next owner. As many are under way as the prefetch allows.
async fn pass_on(
    mut due: Deliveries,
    ahead: Watched,
    partition: Partition,
    notices: mpsc::Sender<Notice>,
) -> Result<(), String> {
    let mut carried_out = FuturesUnordered::new();
    loop {
        let delivery = tokio::select! {
            Some(acker) = carried_out.next() => {
                if let Some(acker) = acker {
                    ack(&acker).await?;
                }
                continue;
            }
            delivery = due.next() => delivery?,
        };
        // One that can't be read has come empty, and is none of ours either.
        drop(ahead.take(delivery.delivery_tag));
        let failed_us = failed_at(&delivery.properties);
        let decided = |id, verb| {
            let (done, recorded) = oneshot::channel();
            (Notice::Operate(partition, Decided { id, verb, failed_us }, done), Some(recorded))
        };
        let (notice, recorded) = match Due::read(&delivery.data) {
            Some(Due::Wake(token)) => (Notice::Due(partition, token), None),
            Some(Due::Redrive(id)) => decided(id, Verb::Redrive),
            Some(Due::Skip(id)) => decided(id, Verb::Skip),
            None => {
                tracing::warn!(%partition, "a message in the due queue is none of ours; it is removed");
                ack(&delivery.acker).await?;
                continue;
            }
        };
        if notices.send(notice).await.is_err() {
            return Ok(());
        }
        match recorded {
            Some(recorded) => carried_out.push(async { recorded.await.ok().map(|()| delivery.acker) }),
            None => ack(&delivery.acker).await?,
        }
    }
}

async fn ack(acker: &Acker) -> Result<(), String> {
    acker.ack(BasicAckOptions::default()).await.map(drop).map_err(|error| error.to_string())
}

async fn channel(connection: &Connection, prefetch: u16) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    Ok(channel)
}

async fn consume(broker: &Answers, channel: &Channel, queue: &str) -> Result<Deliveries, String> {
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    broker.answer(channel.basic_consume(queue.into(), "".into(), options, arguments)).await.map(Deliveries::new)
}

/// Waits for the broker's answers, but not for ever.
struct Answers(Arc<Ahead>);

impl Answers {
    /// Behind messages that have to be recorded first, an answer may take its time.
    async fn answer<T>(&self, request: impl Future<Output = lapin::Result<T>>) -> Result<T, String> {
        let mut request = pin!(request);
        loop {
            match tokio::time::timeout(ANSWER_WITHIN, &mut request).await {
                Ok(answer) => return answer.map_err(|error| error.to_string()),
                Err(_) if self.0.is_full() => {}
                Err(_) => return Err(format!("the broker did not answer within {} s", ANSWER_WITHIN.as_secs())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_gets_as_long_to_take_messages_back_as_its_answers_show_that_it_needs() {
        let answered_in = Duration::from_millis;
        for (graceful, slowest, gets) in [
            (true, answered_in(0), LOOK_AGAIN),
            (false, answered_in(0), TAKE_BACK),
            (true, answered_in(1), LOOK_AGAIN),
            (true, answered_in(40), Duration::from_millis(800)),
            (false, answered_in(10), TAKE_BACK),
            (false, answered_in(40), Duration::from_millis(800)),
            (true, Duration::from_secs(1), TAKE_BACK_AT_MOST),
            (false, Duration::MAX, TAKE_BACK_AT_MOST),
        ] {
            assert_eq!(take_back(graceful, slowest), gets, "graceful: {graceful}, slowest answer: {slowest:?}");
        }
    }
}
