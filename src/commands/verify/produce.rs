//! Publishes the load, through every failure: what was not confirmed is published again, in its order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, PublisherConfirm};
use tokio::sync::mpsc;

use super::args::VerifyArgs;
use super::receive::Receivers;
use super::watch::Watch;
use crate::broker::{Heartbeat, Nodes, until_lost};
use crate::domain::event::IdempotencyKey;
use crate::domain::trace_context;
use crate::proof::load::Message;
use crate::reconnect::Delays;

/// Messages that wait for their confirm at one time.
const WINDOW: usize = 500;
/// A connection that takes longer is tried anew.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// AMQP 0-9-1: the message survives a restart of the broker.
const PERSISTENT: u8 = 2;
/// A header that tells the number of a message that breaks the contract.
pub(super) const POISON: &str = "verify-poison";

/// Publishes every message of the load, and returns when all are confirmed; or with a sentence, if the broker confirms
/// nothing for as long as a run waits at its end. Hostile messages are only told when their turn comes.
pub(super) async fn all(
    args: &VerifyArgs,
    watch: &Arc<Watch>,
    receivers: &Receivers,
    hostile: mpsc::UnboundedSender<u32>,
) -> Result<(), String> {
    let mut open: VecDeque<Message> = watch.load().messages.iter().copied().collect();
    let (mut nodes, mut delays) = (Nodes::new(&args.broker.amqp_url), Delays::default());
    let (mut left, mut progress) = (open.len(), watch.now());
    let mut number = 0;
    let pace = (args.rate > 0).then(|| Duration::from_secs(1) / args.rate);
    while !open.is_empty() {
        if let Ok(Ok((connection, channel))) = tokio::time::timeout(CONNECT_WITHIN, connect(&mut nodes)).await {
            delays.reset();
            let waiting = VecDeque::new();
            let mut producer = Producer { args, watch, receivers, hostile: &hostile, channel, number, waiting };
            number += 1;
            let ended = tokio::select! {
                ended = producer.run(&mut open, pace) => ended,
                () = until_lost(&connection) => Err(()),
            };
            let unconfirmed = producer.waiting.into_iter().map(|(message, _)| message);
            unconfirmed.rev().for_each(|message| open.push_front(message));
            crate::broker::close(&connection, "published").await;
            if ended.is_ok() {
                continue;
            }
        }
        if open.len() < left {
            (left, progress) = (open.len(), watch.now());
        } else if watch.now().saturating_sub(progress) > args.finish_within {
            return Err(format!("the broker confirms nothing; {left} messages are not published"));
        }
        delays.wait().await;
    }
    Ok(())
}

async fn connect(nodes: &mut Nodes) -> lapin::Result<(Connection, Channel)> {
    let connection = nodes.connect("onceward verify", Heartbeat::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((connection, channel))
}

struct Producer<'a> {
    args: &'a VerifyArgs,
    watch: &'a Watch,
    receivers: &'a Receivers,
    /// To whoever publishes hostile messages.
    hostile: &'a mpsc::UnboundedSender<u32>,
    channel: Channel,
    /// Of the connection.
    number: u32,
    waiting: VecDeque<(Message, PublisherConfirm)>,
}

impl Producer<'_> {
    /// Until all are confirmed, or the connection is lost.
    async fn run(&mut self, open: &mut VecDeque<Message>, pace: Option<Duration>) -> Result<(), ()> {
        let mut ticks = pace.map(tokio::time::interval);
        while let Some(message) = open.front().copied() {
            if let Message::Hostile(number) = message {
                let _ = self.hostile.send(number);
                open.pop_front();
                continue;
            }
            if let Some(ticks) = &mut ticks {
                ticks.tick().await;
            }
            let confirm = self.publish(message).await.map_err(drop)?;
            open.pop_front();
            self.waiting.push_back((message, confirm));
            self.take_confirms().await?;
        }
        while let Some((message, confirm)) = self.waiting.pop_front() {
            self.confirmed(message, confirm.await)?;
        }
        Ok(())
    }

    /// Those that are there already; beyond the window, the oldest is waited for.
    async fn take_confirms(&mut self) -> Result<(), ()> {
        while let Some((message, confirm)) = self.waiting.front_mut() {
            let message = *message;
            let answer = match confirm.now_or_never() {
                Some(answer) => answer,
                None if self.waiting.len() < WINDOW => return Ok(()),
                None => match self.waiting.front_mut() {
                    Some((_, confirm)) => confirm.await,
                    None => return Ok(()),
                },
            };
            self.confirmed(message, answer)?;
            self.waiting.pop_front();
        }
        Ok(())
    }

    fn confirmed(&mut self, message: Message, answer: lapin::Result<Confirmation>) -> Result<(), ()> {
        match (answer, message) {
            (Ok(Confirmation::Ack(None)), Message::Event(index)) => {
                self.watch.confirmed(index);
                Ok(())
            }
            (Ok(Confirmation::Ack(None)), _) => Ok(()),
            _ => Err(()),
        }
    }

    async fn publish(&self, message: Message) -> lapin::Result<PublisherConfirm> {
        let load = self.watch.load();
        let (entity, body, properties) = match message {
            Message::Event(index) | Message::Duplicate(index) => {
                if matches!(message, Message::Event(_)) {
                    self.watch.publishing(index, self.number);
                }
                (load.entity_name(load.events[index].entity), load.body(index), self.properties(index))
            }
            Message::Poison(number) | Message::Hostile(number) => (
                format!("verify.{}.poison", load.run),
                format!("poison {number}").into_bytes(),
                poison(load, number, self.args.origin.sequence_from.header()),
            ),
        };
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let exchange = self.args.broker.exchange.as_str();
        let properties = self.of_entity(properties, &entity).with_delivery_mode(PERSISTENT);
        self.channel.basic_publish(exchange.into(), entity.as_str().into(), options, &body, properties).await
    }

    /// Where the workers take the entity from a header, it stands there, too.
    fn of_entity(&self, properties: BasicProperties, entity: &str) -> BasicProperties {
        let Some(header) = self.args.origin.entity_from.header() else { return properties };
        let mut headers = properties.headers().clone().unwrap_or_default();
        headers.insert(header.into(), AMQPValue::LongString(entity.into()));
        properties.with_headers(headers)
    }

    fn properties(&self, index: usize) -> BasicProperties {
        let event = &self.watch.load().events[index];
        let mut headers = FieldTable::default();
        let destination = self.receivers.url(event.host);
        headers.insert("destination".into(), AMQPValue::LongString(destination.into()));
        let traceparent = trace_context::from_key(&IdempotencyKey::from(event.key.as_str()));
        if let Ok(traceparent) = traceparent.to_str() {
            headers.insert("traceparent".into(), AMQPValue::LongString(traceparent.into()));
        }
        if event.numbered {
            let name = self.args.origin.sequence_from.header();
            headers.insert(name.into(), AMQPValue::LongLongInt(event.place.into()));
        }
        BasicProperties::default()
            .with_message_id(event.key.as_str().into())
            .with_content_type("application/json".into())
            .with_headers(headers)
    }
}

/// Messages that break the contract in turns: no key, no URL, no number.
fn poison(load: &crate::proof::load::Load, number: u32, sequence: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(POISON.into(), AMQPValue::LongLongInt(number.into()));
    let url = if number % 3 == 1 { "ftp://host/" } else { "http://127.0.0.1:9/" };
    headers.insert("destination".into(), AMQPValue::LongString(url.into()));
    if number % 3 == 2 {
        headers.insert(sequence.into(), AMQPValue::LongString("two".into()));
    }
    let properties = BasicProperties::default().with_headers(headers);
    if number.is_multiple_of(3) {
        properties
    } else {
        properties.with_message_id(format!("{}-poison-{number}", load.run).into())
    }
}
