//! Reads the dead-letter queue.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use tokio::sync::watch;

use super::World;

/// A message of the dead-letter exchange.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    pub entity: String,
    pub key: Option<String>,
    pub content_type: Option<String>,
    pub headers: FieldTable,
    pub body: Vec<u8>,
}

impl DeadLetter {
    pub fn reason(&self) -> String {
        self.text("onceward-reason")
    }

    pub fn detail(&self) -> String {
        self.text("onceward-detail")
    }

    pub fn attempts(&self) -> i64 {
        match self.header("onceward-attempts") {
            AMQPValue::LongLongInt(number) => *number,
            AMQPValue::LongInt(number) => (*number).into(),
            AMQPValue::ShortInt(number) => (*number).into(),
            other => panic!("onceward-attempts is not an integer: {other:?}"),
        }
    }

    pub fn history(&self) -> Vec<serde_json::Value> {
        let text = self.text("onceward-history");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("onceward-history: {error}: {text}"))
    }

    pub fn text(&self, name: &str) -> String {
        match self.header(name) {
            AMQPValue::LongString(text) => text.to_string(),
            AMQPValue::ShortString(text) => text.to_string(),
            other => panic!("{name} is not text: {other:?}"),
        }
    }

    pub fn header(&self, name: &str) -> &AMQPValue {
        let header = self.headers.inner().get(name);
        header.unwrap_or_else(|| panic!("the dead letter has no {name}: {self:?}"))
    }
}

impl From<&Delivery> for DeadLetter {
    fn from(delivery: &Delivery) -> Self {
        Self {
            entity: delivery.routing_key.to_string(),
            key: delivery.properties.message_id().as_ref().map(ToString::to_string),
            content_type: delivery.properties.content_type().as_ref().map(ToString::to_string),
            headers: delivery.properties.headers().clone().unwrap_or_default(),
            body: delivery.data.clone(),
        }
    }
}

/// Takes dead letters off the queue and keeps them. Opened when the worker has declared the queue.
pub struct DeadLetters {
    taken: Arc<Mutex<Vec<DeadLetter>>>,
    count: watch::Receiver<usize>,
    _connection: Connection,
}

impl DeadLetters {
    pub async fn open(world: &World) -> Self {
        let connection = Connection::connect(&world.amqp_url, ConnectionProperties::default()).await;
        let connection = connection.expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel");
        let options = BasicConsumeOptions::default();
        let consuming =
            channel.basic_consume("events.dead-letter".into(), "test".into(), options, FieldTable::default());
        let mut consumer = consuming.await.expect("the dead-letter queue");
        let (sender, count) = watch::channel(0);
        let taken = Arc::new(Mutex::new(Vec::new()));
        let keeping = Arc::clone(&taken);
        tokio::spawn(async move {
            // It ends with the connection.
            while let Some(Ok(delivery)) = consumer.next().await {
                keeping.lock().unwrap().push(DeadLetter::from(&delivery));
                sender.send_modify(|count| *count += 1);
                let _ = delivery.ack(BasicAckOptions::default()).await;
            }
            drop(channel);
        });
        Self { taken, count, _connection: connection }
    }

    pub fn taken(&self) -> Vec<DeadLetter> {
        self.taken.lock().unwrap().clone()
    }

    /// Waits until there are so many.
    pub async fn wait_for(&self, time: Duration, wanted: usize) -> Vec<DeadLetter> {
        let mut count = self.count.clone();
        let waiting = count.wait_for(|count| *count >= wanted);
        match tokio::time::timeout(time, waiting).await {
            Ok(Ok(_)) => self.taken(),
            Ok(Err(_)) => panic!("the consumer of dead letters ended"),
            Err(elapsed) => {
                panic!("after {time:?} still waiting for {wanted} dead letters; came: {:#?} ({elapsed})", self.taken())
            }
        }
    }

    /// Waits for those of one key.
    pub async fn wait_for_key(&self, time: Duration, key: &str) -> DeadLetter {
        let found = || self.taken().into_iter().find(|letter| letter.key.as_deref() == Some(key));
        let mut count = self.count.clone();
        let waiting = count.wait_for(|_| found().is_some());
        let came = matches!(tokio::time::timeout(time, waiting).await, Ok(Ok(_)));
        assert!(came, "after {time:?} still waiting for the dead letter {key}; came: {:#?}", self.taken());
        found().expect("it just came")
    }
}
