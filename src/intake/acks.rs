//! Acknowledgements, after the commit and in its order.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use lapin::options::BasicAckOptions;
use lapin::types::AMQPValue;
use lapin::{Acker, BasicProperties};
use tokio::sync::{mpsc, oneshot};

use crate::broker::publisher::{Publisher, with_headers};
use crate::broker::topology::Names;
use crate::broker::wire;
use crate::domain::admission::Admission;
use crate::domain::event::Event;
use crate::domain::poison::Poison;
use crate::reconnect::Delays;
use crate::store::admit::Admitted;

/// Dead letters that wait for their confirm at one time.
const DEAD_LETTERING: usize = 64;

/// Messages that were taken in together.
pub struct Batch {
    /// Those that keep the contract.
    pub events: Vec<Arc<Event>>,
    /// What became of them.
    pub admitted: oneshot::Receiver<Vec<Admitted>>,
    /// Those that break it.
    pub poisoned: Vec<Poisoned>,
    /// Of the last message.
    pub last: Acker,
}

/// A message that goes to the dead-letter exchange instead of its destination.
pub struct Poisoned {
    /// As it came.
    pub routing_key: String,
    /// As they came.
    pub properties: BasicProperties,
    /// As it came.
    pub body: Bytes,
    /// Why.
    pub poison: Poison,
}

/// The acknowledging end of a consumer.
pub struct Acks {
    /// To the dead-letter exchange.
    pub publisher: Publisher,
    /// Its name.
    pub names: Names,
}

impl Acks {
    /// Acknowledges until no more batches come.
    ///
    /// # Errors
    /// Why the session has to end: messages that are not acknowledged come again.
    pub async fn run(self, mut batches: mpsc::Receiver<Batch>) -> Result<(), String> {
        while let Some(batch) = batches.recv().await {
            let Batch { events, admitted, mut poisoned, last } = batch;
            let outcomes = admitted.await.map_err(|_| "a partition has another owner".to_owned())?;
            for (event, outcome) in events.iter().zip(outcomes) {
                if let Admission::Reject(poison) = outcome.admission {
                    poisoned.push(rejected(event, poison));
                }
            }
            stream::iter(&poisoned).for_each_concurrent(DEAD_LETTERING, |poisoned| self.dead_letter(poisoned)).await;
            last.ack(BasicAckOptions { multiple: true }).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Tries until the broker has confirmed it: only then is the message acknowledged.
    async fn dead_letter(&self, message: &Poisoned) {
        let Poisoned { routing_key, properties, body, poison } = message;
        let headers = [
            ("onceward-reason", AMQPValue::LongString(poison.code().into())),
            ("onceward-detail", AMQPValue::LongString(poison.to_string().into())),
        ];
        let properties = with_headers(properties.clone(), headers);
        let mut delays = Delays::default();
        let mut told = false;
        while let Err(error) =
            self.publisher.store(&self.names.dead_letter(), routing_key, properties.clone(), body).await
        {
            if !told {
                tracing::warn!(%error, reason = poison.code(), "a dead letter could not be published; it is tried again");
            }
            told = true;
            delays.wait().await;
        }
        tracing::info!(reason = poison.code(), entity = routing_key, "dead letter: {poison}");
    }
}

fn rejected(event: &Event, poison: Poison) -> Poisoned {
    Poisoned {
        routing_key: event.entity.to_string(),
        properties: wire::decode(&event.properties),
        body: event.body.clone(),
        poison,
    }
}
