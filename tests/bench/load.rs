//! The load: events of a fixed seed, and the ways to publish them.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::FutureExt as _;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, PublisherConfirm};
use onceward::broker::{self, Heartbeat};
use onceward::config::SecretUrl;

use super::stamp::{Group, Stamp};
use super::{Fallible, clock, world};

/// AMQP 0-9-1: the message survives a restart of the broker.
const PERSISTENT: u8 = 2;
/// Connections that a backlog is published by. Each takes entities of its own, so that their order holds.
const CONNECTIONS: u32 = 2;
/// Messages of one connection that wait for their confirm at one time.
const WINDOW: usize = 1_000;
/// Steps of a schedule: a timer that fires more often costs CPU that others need.
const STEP: Duration = Duration::from_millis(1);

/// What is published.
#[derive(Clone, Debug)]
pub struct Load {
    /// First part of every idempotency key: no two loads of a run share a key.
    pub name: String,
    pub events: u32,
    pub entities: u32,
    pub hosts: u32,
    /// Bytes of a body.
    pub payload: usize,
    /// Entity 0 has half of all events.
    pub is_one_hot: bool,
    /// Events of the last host are a group of their own.
    pub is_last_apart: bool,
    pub seed: u64,
}

/// The address of a host: the destination's `host:port` is what the cap counts by.
pub fn address(host: u32) -> Ipv4Addr {
    let [_, _, high, low] = (host / 250 * 256 + host % 250 + 1).to_be_bytes();
    Ipv4Addr::new(127, 0, high, low)
}

impl Load {
    /// Events of 1 KiB, of a thousand entities, to one host.
    pub fn plain(events: u32, seed: u64) -> Self {
        Self {
            name: world::name(),
            events,
            entities: 1_000,
            hosts: 1,
            payload: 1_024,
            is_one_hot: false,
            is_last_apart: false,
            seed,
        }
    }

    /// All events in order, always the same.
    pub fn stamps(&self) -> impl Iterator<Item = Stamp> + Send + use<> {
        let mut chance = fastrand::Rng::with_seed(self.seed);
        let mut numbers = vec![0; self.entities as usize];
        let load = self.clone();
        (0..self.events).map(move |index| {
            let entity = if load.is_one_hot && chance.bool() { 0 } else { chance.u32(0..load.entities) };
            let number = numbers[entity as usize];
            numbers[entity as usize] += 1;
            Stamp { entity, number, index, group: load.group(entity), due: Duration::ZERO }
        })
    }

    /// How many events a group has.
    pub fn count(&self, group: Group) -> u32 {
        u32::try_from(self.stamps().filter(|stamp| stamp.group == group).count()).unwrap_or(u32::MAX)
    }

    fn group(&self, entity: u32) -> Group {
        let apart = self.is_last_apart && entity % self.hosts == self.hosts - 1;
        if apart || (self.is_one_hot && entity == 0) { Group::Special } else { Group::Usual }
    }

    /// Publishes all of it, and returns when the broker has confirmed all of it.
    pub async fn publish(&self, url: &SecretUrl, port: u16) -> Fallible<()> {
        let shares = (0..CONNECTIONS).map(async |share| {
            let mut producer = Producer::connect(self, url, port, WINDOW).await?;
            for stamp in self.stamps().filter(|stamp| stamp.entity % CONNECTIONS == share) {
                producer.publish(&stamp).await?;
            }
            producer.close().await
        });
        futures_util::future::try_join_all(shares).await.map(drop)
    }

    /// Publishes all of it with the numbers of its entities moved up, and as the special group.
    pub async fn publish_apart(&self, url: &SecretUrl, port: u16, by: u32) -> Fallible<()> {
        let mut producer = Producer::connect(self, url, port, WINDOW).await?;
        for stamp in self.stamps() {
            producer.publish(&Stamp { entity: stamp.entity + by, group: Group::Special, ..stamp }).await?;
        }
        producer.close().await
    }

    /// Publishes `rate` events a second by a fixed schedule, which waits for nothing: neither for confirms nor for a step
    /// that comes late. The events of the first `warm_up` are the special group. Gives how late the latest step was.
    pub async fn publish_by_schedule(
        &self,
        url: &SecretUrl,
        port: u16,
        rate: f64,
        warm_up: Duration,
    ) -> Fallible<Duration> {
        let mut producer = Producer::connect(self, url, port, usize::MAX).await?;
        let begin = clock::now() + STEP;
        let mut steps = steps(begin);
        let (mut latest, mut stamps) = (Duration::ZERO, self.stamps().peekable());
        while let Some(due) = steps.recv().await {
            latest = latest.max(clock::now().saturating_sub(due));
            let group = if due.saturating_sub(begin) < warm_up { Group::Special } else { Group::Usual };
            let so_far = ((due.saturating_sub(begin) + STEP).as_secs_f64() * rate) as u32;
            while let Some(stamp) = stamps.next_if(|stamp| stamp.index < so_far) {
                producer.publish(&Stamp { group, due, ..stamp }).await?;
            }
            if stamps.peek().is_none() {
                break;
            }
        }
        producer.close().await?;
        Ok(latest)
    }
}

/// The moments of a schedule, each when it comes. A thread of its own: the runtime's timers are up to a millisecond late.
fn steps(begin: Duration) -> tokio::sync::mpsc::UnboundedReceiver<Duration> {
    let (due, steps) = tokio::sync::mpsc::unbounded_channel();
    tokio::task::spawn_blocking(move || {
        let moments = (0..).map(|step| begin + STEP * step);
        for moment in moments {
            let wait = moment.saturating_sub(clock::now());
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            if due.send(moment).is_err() {
                return;
            }
        }
    });
    steps
}

/// One connection to the broker.
pub struct Producer {
    connection: Connection,
    channel: Channel,
    waiting: VecDeque<PublisherConfirm>,
    window: usize,
    name: String,
    destinations: Vec<FieldTable>,
    body: Vec<u8>,
}

impl Producer {
    pub async fn connect(load: &Load, url: &SecretUrl, port: u16, window: usize) -> Fallible<Self> {
        let connection = broker::connect(url, "onceward bench", Heartbeat::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let destination = |host: u32| {
            let mut headers = FieldTable::default();
            let destination = format!("http://{}:{port}/events", address(host));
            headers.insert("destination".into(), AMQPValue::LongString(destination.into()));
            headers
        };
        // Bodies that no database can compress, as most that are compressed already.
        let mut chance = fastrand::Rng::with_seed(load.seed);
        let body = (0..load.payload.max(Stamp::BYTES)).map(|_| chance.u8(..)).collect();
        let destinations = (0..load.hosts).map(destination).collect();
        let waiting = VecDeque::new();
        Ok(Self { connection, channel, waiting, window, name: load.name.clone(), destinations, body })
    }

    /// Publishes one event. Waits only if the window is full.
    pub async fn publish(&mut self, stamp: &Stamp) -> Fallible<()> {
        stamp.write(&mut self.body);
        let headers = self.destinations[stamp.entity as usize % self.destinations.len()].clone();
        let properties = BasicProperties::default()
            .with_message_id(format!("{}-{}", self.name, stamp.index).into())
            .with_content_type("application/octet-stream".into())
            .with_delivery_mode(PERSISTENT)
            .with_headers(headers);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let entity = format!("entity-{}", stamp.entity).into();
        let confirm = self.channel.basic_publish("events".into(), entity, options, &self.body, properties).await?;
        self.waiting.push_back(confirm);
        self.take_confirms().await
    }

    async fn take_confirms(&mut self) -> Fallible<()> {
        while let Some(confirm) = self.waiting.front_mut() {
            let confirmation = match confirm.now_or_never() {
                Some(confirmation) => confirmation?,
                None if self.waiting.len() < self.window => return Ok(()),
                None => match self.waiting.front_mut() {
                    Some(confirm) => confirm.await?,
                    None => return Ok(()),
                },
            };
            self.waiting.pop_front();
            must_be_taken(&confirmation)?;
        }
        Ok(())
    }

    /// Waits for what is not confirmed yet.
    pub async fn close(self) -> Fallible<()> {
        for confirm in self.waiting {
            must_be_taken(&confirm.await?)?;
        }
        broker::close(&self.connection, "published").await;
        Ok(())
    }
}

fn must_be_taken(confirmation: &Confirmation) -> Fallible<()> {
    match confirmation {
        Confirmation::Ack(None) => Ok(()),
        other => Err(format!("the broker did not take an event: {other:?}").into()),
    }
}
