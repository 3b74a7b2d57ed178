//! Publishes one event, and exits with 0 only if RabbitMQ has it in a queue.
//!
//! usage: cargo run --example publish ENTITY KEY SEQUENCE DESTINATION BODY        (SEQUENCE may be -, for none)
//!
//! Needs lapin 4, tokio (rt-multi-thread, macros, time) and `ONCEWARD_AMQP_URL`; hands `TRACEPARENT` on.

#![allow(clippy::disallowed_methods, reason = "a program of its own, which the settings of onceward do not reach")]

use std::{env, error::Error, process::ExitCode, time::Duration};

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};

/// Ok only if the event is in a queue and the broker has confirmed it. One event at a time on a channel: lapin hands
/// a message that is returned to whichever confirm of the channel comes next.
async fn publish(channel: &Channel, entity: &str, event: BasicProperties, body: &[u8]) -> Result<(), Box<dyn Error>> {
    let exchange = env::var("ONCEWARD_EXCHANGE").unwrap_or("events".into());
    // What no queue takes is returned. The routing key is the entity, whose order is kept.
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    match channel.basic_publish(exchange.into(), entity.into(), options, body, event).await?.await? {
        Confirmation::Ack(None) => Ok(()),
        // A returned message is confirmed all the same.
        Confirmation::Ack(Some(_)) => Err("no queue takes it; start a worker, which declares the queues".into()),
        other => Err(format!("the broker did not confirm it: {other:?}").into()),
    }
}

async fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let (Ok(url), [entity, key, sequence, destination, body]) = (env::var("ONCEWARD_AMQP_URL"), arguments) else {
        return Err("usage: ONCEWARD_AMQP_URL=amqp://… publish ENTITY KEY SEQUENCE DESTINATION BODY".into());
    };
    let mut headers = FieldTable::default();
    headers.insert("destination".into(), AMQPValue::LongString(destination.as_str().into()));
    if sequence != "-" {
        headers.insert("sequence".into(), AMQPValue::LongLongInt(sequence.parse()?));
    }
    if let Ok(traceparent) = env::var("TRACEPARENT") {
        headers.insert("traceparent".into(), AMQPValue::LongString(traceparent.into()));
    }
    let event = BasicProperties::default()
        .with_message_id(key.as_str().into()) // the idempotency key: the same in every try to publish this event
        .with_delivery_mode(2) // persistent
        .with_content_type("application/json".into())
        .with_headers(headers);
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    publish(&channel, entity, event, body.as_bytes()).await?;
    connection.close(200, "published".into()).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let outcome = tokio::time::timeout(Duration::from_secs(30), run(&arguments)).await;
    match outcome.unwrap_or_else(|_| Err("no confirm within 30 s".into())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("not published: {error}");
            ExitCode::FAILURE
        }
    }
}
