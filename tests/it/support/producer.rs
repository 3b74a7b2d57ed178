//! Publishes as any client would: AMQP 0-9-1 with publisher confirms.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

use super::World;

/// The longest wait for a confirm of a broker that may be away.
const PATIENCE: Duration = Duration::from_secs(3);
/// The most unconfirmed messages of one producer.
const WINDOW: usize = 1_000;

/// A message, also one that breaks the contract.
#[derive(Clone, Debug)]
pub struct Message {
    pub entity: String,
    pub key: Option<String>,
    pub content_type: Option<String>,
    pub user_id: Option<String>,
    pub expiration: Option<String>,
    pub headers: FieldTable,
    pub body: Vec<u8>,
}

impl Message {
    /// By the contract, with a body that nobody else has.
    pub fn new(entity: &str, key: &str, destination: &str) -> Self {
        let message = Self {
            entity: entity.into(),
            key: Some(key.into()),
            content_type: Some("application/json".into()),
            user_id: None,
            expiration: None,
            headers: FieldTable::default(),
            body: format!(r#"{{"key":"{key}"}}"#).into_bytes(),
        };
        message.text("destination", destination)
    }

    pub fn sequence(self, sequence: i64) -> Self {
        self.header("sequence", AMQPValue::LongLongInt(sequence))
    }

    pub fn text(self, name: &str, value: &str) -> Self {
        self.header(name, AMQPValue::LongString(LongString::from(value)))
    }

    pub fn header(mut self, name: &str, value: AMQPValue) -> Self {
        self.headers.insert(name.into(), value);
        self
    }

    pub fn body(self, body: impl Into<Vec<u8>>) -> Self {
        Self { body: body.into(), ..self }
    }

    pub fn user_id(self, user: &str) -> Self {
        Self { user_id: Some(user.into()), ..self }
    }

    /// In milliseconds.
    pub fn expiration(self, time: &str) -> Self {
        Self { expiration: Some(time.into()), ..self }
    }

    pub fn name(&self) -> &str {
        self.key.as_deref().unwrap_or_default()
    }

    pub fn properties(&self) -> BasicProperties {
        let mut properties = BasicProperties::default().with_headers(self.headers.clone()).with_delivery_mode(2);
        if let Some(key) = &self.key {
            properties = properties.with_message_id(key.as_str().into());
        }
        if let Some(content_type) = &self.content_type {
            properties = properties.with_content_type(content_type.as_str().into());
        }
        if let Some(user) = &self.user_id {
            properties = properties.with_user_id(user.as_str().into());
        }
        if let Some(time) = &self.expiration {
            properties = properties.with_expiration(time.as_str().into());
        }
        properties
    }
}

/// One connection to the broker.
pub struct Producer {
    exchange: &'static str,
    channel: Channel,
    _connection: Connection,
}

impl Producer {
    pub async fn connect(world: &World) -> Self {
        Self::try_connect(&world.amqp_url).await.expect("the broker answers")
    }

    /// For tests that stop the broker: to whichever node answers.
    pub async fn try_connect(urls: &str) -> lapin::Result<Self> {
        let mut connecting = Err(lapin::ErrorKind::InvalidConnectionState(lapin::ConnectionState::Closed).into());
        for url in urls.split(',') {
            connecting = Connection::connect(url, ConnectionProperties::default()).await;
            if connecting.is_ok() {
                break;
            }
        }
        let connection = connecting?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { exchange: "events", channel, _connection: connection })
    }

    pub fn through(self, exchange: &'static str) -> Self {
        Self { exchange, ..self }
    }

    /// Publishes one message and waits for its confirm.
    pub async fn publish(&self, message: &Message) {
        self.publish_all(std::slice::from_ref(message)).await;
    }

    /// For tests that stop the broker: whether the broker has confirmed the message.
    pub async fn try_publish(&self, message: &Message) -> bool {
        let Ok(confirm) = self.send(message).await else { return false };
        matches!(confirm.await, Ok(Confirmation::Ack(None)))
    }

    /// Publishes all, in this order, with many in flight; returns when all are confirmed.
    pub async fn publish_all(&self, messages: &[Message]) {
        for window in messages.chunks(WINDOW) {
            let mut confirms = Vec::with_capacity(window.len());
            for message in window {
                confirms.push(self.send(message).await.expect("the broker takes the message"));
            }
            for confirm in confirms {
                let confirmation = confirm.await.expect("the broker answers");
                assert!(matches!(confirmation, Confirmation::Ack(None)), "not taken: {confirmation:?}");
            }
        }
    }

    async fn send(&self, message: &Message) -> lapin::Result<lapin::PublisherConfirm> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let key = message.entity.as_str().into();
        self.channel.basic_publish(self.exchange.into(), key, options, &message.body, message.properties()).await
    }
}

/// Publishes from several connections at once: message N goes to connection N modulo their count.
pub async fn publish_from(world: &World, connections: usize, messages: &[Message]) {
    let tasks = (0..connections).map(async |first| {
        let share: Vec<_> = messages.iter().skip(first).step_by(connections).cloned().collect();
        Producer::connect(world).await.publish_all(&share).await;
    });
    futures_util::future::join_all(tasks).await;
}

/// For loads that outlive their broker: connects anew if there is no producer. Whether the broker has confirmed the
/// message; nothing is waited for for ever.
pub async fn publish_through(producer: &mut Option<Producer>, amqp_url: &str, message: &Message) -> bool {
    let attempt = async {
        if producer.is_none() {
            *producer = Producer::try_connect(amqp_url).await.ok();
        }
        match producer {
            Some(producer) => producer.try_publish(message).await,
            None => false,
        }
    };
    tokio::time::timeout(PATIENCE, attempt).await.unwrap_or(false)
}
