//! The bare pipe that Onceward is measured against: consume, POST, acknowledge. It keeps no order, no record, no retry and
//! no promise; it is what the broker, the client and the receiver cost by themselves.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection};
use onceward::broker::topology::Names;
use onceward::broker::{self, Heartbeat};
use onceward::config::SecretUrl;
use onceward::domain::event::Partition;
use reqwest::Client;
use tokio::io::AsyncReadExt as _;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::Fallible;

/// Messages of all queues together that the broker sends ahead, as the worker has it.
const PREFETCH_IN_ALL: u16 = 2_048;

/// Where the pipe takes from.
#[derive(Clone, Debug, Args)]
pub struct PipeArgs {
    #[arg(long)]
    pub amqp_url: SecretUrl,
    #[arg(long)]
    pub partitions: u16,
    /// Requests at a time.
    #[arg(long)]
    pub connections: u16,
}

/// Runs until standard input ends, or anything fails.
pub async fn run(args: PipeArgs) -> Fallible<()> {
    let connection = broker::connect(&args.amqp_url, "onceward bench pipe", Heartbeat::default()).await?;
    let client = Client::builder().no_proxy().http1_only().pool_max_idle_per_host(args.connections.into()).build()?;
    let turns = Arc::new(Semaphore::new(args.connections.into()));
    let mut queues = JoinSet::new();
    for number in 0..args.partitions {
        let queue = Names::new("events").partition(Partition(number.into()));
        let queue = Queue::open(&connection, &queue, PREFETCH_IN_ALL / args.partitions).await?;
        queues.spawn(queue.run(client.clone(), Arc::clone(&turns)));
    }
    let mut stdin = tokio::io::stdin();
    tokio::select! {
        ended = queues.join_next() => ended.ok_or("there is no queue")??,
        _ = stdin.read_u8() => Ok(()),
    }
}

struct Queue {
    channel: Channel,
    consumer: lapin::Consumer,
}

impl Queue {
    async fn open(connection: &Connection, queue: &str, prefetch: u16) -> Fallible<Self> {
        let channel = connection.create_channel().await?;
        channel.basic_qos(prefetch.max(1), BasicQosOptions::default()).await?;
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?;
        Ok(Self { channel, consumer })
    }

    /// Each message in a task of its own; acknowledged as far as all before it have been answered.
    async fn run(mut self, client: Client, turns: Arc<Semaphore>) -> Fallible<()> {
        let (answered, mut answers) = mpsc::unbounded_channel();
        let (mut acked, mut open, mut tags) = (0, BTreeSet::new(), Vec::new());
        loop {
            tokio::select! {
                delivery = self.consumer.next() => {
                    let delivery = delivery.ok_or("the broker cancelled a consumer")??;
                    tokio::spawn(post(delivery, client.clone(), Arc::clone(&turns), answered.clone()));
                }
                _ = answers.recv_many(&mut tags, usize::from(PREFETCH_IN_ALL)) => {
                    for tag in tags.drain(..) {
                        open.insert(tag?);
                    }
                    let before = acked;
                    while open.remove(&(acked + 1)) {
                        acked += 1;
                    }
                    if acked > before {
                        self.channel.basic_ack(acked, BasicAckOptions { multiple: true }).await?;
                    }
                }
            }
        }
    }
}

type Answered = mpsc::UnboundedSender<Fallible<u64>>;

async fn post(delivery: Delivery, client: Client, turns: Arc<Semaphore>, answered: Answered) {
    let tag = delivery.delivery_tag;
    let sent = send(delivery, &client, &turns).await;
    let _ = answered.send(sent.map(|()| tag));
}

async fn send(delivery: Delivery, client: &Client, turns: &Semaphore) -> Fallible<()> {
    let headers = delivery.properties.headers().as_ref().map(FieldTable::inner);
    let Some(AMQPValue::LongString(destination)) = headers.and_then(|headers| headers.get("destination")) else {
        return Err("a message without a destination".into());
    };
    let _turn = turns.acquire().await?;
    let request = client.post(std::str::from_utf8(destination.as_bytes())?).body(Bytes::from(delivery.data));
    let answer = request.header("content-type", "application/octet-stream").send().await?.error_for_status()?;
    // Read to its end, so that its connection can be used again.
    answer.bytes().await?;
    Ok(())
}
