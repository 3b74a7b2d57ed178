//! Looks at the dead letters of a run, by a queue of its own: what others wait for stays where it is.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Acker, Connection, ExchangeKind};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::args::VerifyArgs;
use super::produce::POISON;
use super::watch::Watch;
use crate::broker::topology::Names;
use crate::broker::{Heartbeat, Nodes, until_lost};
use crate::proof::history::DeadLetter;
use crate::reconnect::Delays;

/// How long the workers may take to declare their exchanges.
const DECLARED_WITHIN: Duration = Duration::from_mins(1);
/// Letters that are acknowledged together, at most.
const AT_ONCE: usize = 200;
/// How long the broker may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The queue, and the task that empties it.
pub(super) struct Queue {
    nodes: Nodes,
    name: String,
    task: JoinHandle<()>,
}

/// Waits until the workers have declared the dead-letter exchange, and binds a queue to it.
pub(super) async fn open(args: &VerifyArgs, watch: &Arc<Watch>, stop: &CancellationToken) -> Result<Queue, String> {
    let exchange = Names::new(&args.broker.exchange).dead_letter();
    let name = format!("verify.{}", watch.load().run);
    let mut nodes = Nodes::new(&args.broker.amqp_url);
    let declaring = async {
        let mut delays = Delays::default();
        loop {
            let declared = declare(&mut nodes, &exchange, &name);
            match tokio::time::timeout(ANSWER_WITHIN, declared).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => tracing::debug!(%error, "the dead-letter exchange is not there yet"),
                Err(_) => tracing::debug!("the broker does not answer"),
            }
            delays.wait().await;
        }
    };
    tokio::time::timeout(DECLARED_WITHIN, declaring).await.map_err(|_| {
        format!(
            "the exchange `{exchange}` is not there: is a worker running on this broker with --exchange {}?",
            args.broker.exchange
        )
    })?;
    let task = empty(nodes.clone(), name.clone(), watch.clone());
    let task = tokio::spawn(async move {
        task.await;
    });
    let abort = task.abort_handle();
    let stop = stop.clone();
    tokio::spawn(async move {
        stop.cancelled().await;
        abort.abort();
    });
    Ok(Queue { nodes, name, task })
}

impl Queue {
    /// Removes the queue.
    pub(super) async fn close(mut self) {
        self.task.abort();
        let removing = async {
            let connection = connect(&mut self.nodes).await?;
            let channel = connection.create_channel().await?;
            channel.queue_delete(self.name.as_str().into(), QueueDeleteOptions::default()).await?;
            crate::broker::close(&connection, "verified").await;
            lapin::Result::Ok(())
        };
        // What can't be removed goes by itself, after an hour.
        let _ = tokio::time::timeout(ANSWER_WITHIN, removing).await;
    }
}

async fn declare(nodes: &mut Nodes, exchange: &str, name: &str) -> lapin::Result<()> {
    let connection = connect(nodes).await?;
    let channel = connection.create_channel().await?;
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.into(), ExchangeKind::Topic, passive, FieldTable::default()).await?;
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    // Of a cluster, it must not be away with one node: what is published then would not come to it.
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    // Should this run die before it removes the queue: an hour without a consumer.
    arguments.insert("x-expires".into(), AMQPValue::LongInt(3_600_000));
    channel.queue_declare(name.into(), durable, arguments).await?;
    let key = format!("{name}.#");
    channel
        .queue_bind(
            name.into(),
            exchange.into(),
            key.as_str().into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await?;
    crate::broker::close(&connection, "declared").await;
    Ok(())
}

async fn connect(nodes: &mut Nodes) -> lapin::Result<Connection> {
    nodes.connect("onceward verify", Heartbeat::default()).await
}

/// Takes what comes, through every failure.
async fn empty(mut nodes: Nodes, name: String, watch: Arc<Watch>) {
    let mut delays = Delays::default();
    loop {
        if let Ok(Ok(connection)) = tokio::time::timeout(ANSWER_WITHIN, connect(&mut nodes)).await {
            delays.reset();
            tokio::select! {
                Err(error) = consume(&connection, &name, &watch) => tracing::debug!(%error, "the dead letters are out of reach"),
                () = until_lost(&connection) => {}
            }
        }
        delays.wait().await;
    }
}

async fn consume(connection: &Connection, name: &str, watch: &Watch) -> lapin::Result<()> {
    let channel = connection.create_channel().await?;
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    let mut consumer = channel.basic_consume(name.into(), "".into(), options, arguments).await?;
    while let Some(delivery) = consumer.next().await {
        let mut last = note(delivery?, watch);
        // One acknowledgement for those that are there: each is a write for the broker, which has the workers' letters to store.
        for _ in 1..AT_ONCE {
            let Some(Some(delivery)) = consumer.next().now_or_never() else { break };
            last = note(delivery?, watch);
        }
        last.ack(BasicAckOptions { multiple: true }).await?;
    }
    Ok(())
}

fn note(delivery: Delivery, watch: &Watch) -> Acker {
    match watch.hostile_of_entity(delivery.routing_key.as_str()) {
        // Of one that can't be read, this is all that comes.
        Some(number) => watch.hostile(number, |hostile| hostile.letters += 1),
        None => watch.dead_letter(read(&delivery, watch)),
    }
    delivery.acker
}

fn read(delivery: &Delivery, watch: &Watch) -> DeadLetter {
    let headers = delivery.properties.headers().clone().unwrap_or_default();
    let text = |name: &str| match headers.inner().get(name) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => String::new(),
    };
    let poison = match headers.inner().get(POISON) {
        Some(AMQPValue::LongLongInt(number)) => u32::try_from(*number).ok(),
        _ => None,
    };
    let key = delivery.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default();
    let event = watch.index_of(&key).filter(|_| poison.is_none());
    let reason = text("onceward-reason");
    let body = match (event, poison) {
        (Some(index), _) => watch.is_intact(index, &delivery.data),
        (None, Some(number)) => delivery.data == format!("poison {number}").as_bytes(),
        (None, None) => false,
    };
    let history: Vec<serde_json::Value> = serde_json::from_str(&text("onceward-history")).unwrap_or_default();
    let complete = body && !text("onceward-detail").is_empty() && (reason != "exhausted" || !history.is_empty());
    // Of a history that was cut, nobody knows how long it was.
    let is_whole = reason == "exhausted" && text("onceward-cut").is_empty();
    let attempts = u32::try_from(history.len()).ok().filter(|_| is_whole);
    DeadLetter { event, poison, reason, attempts, complete }
}
