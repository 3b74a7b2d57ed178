//! Acknowledgements, after the commit and in its order.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use lapin::options::BasicAckOptions;
use lapin::types::{AMQPValue, ShortString};
use lapin::{Acker, BasicProperties};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::Span;

use crate::broker::publisher::{Publisher, with_headers};
use crate::broker::topology::Names;
use crate::broker::wire;
use crate::clock;
use crate::domain::admission::Admission;
use crate::domain::event::Event;
use crate::domain::poison::Poison;
use crate::reconnect::Delays;
use crate::store::admit::Admitted;
use crate::telemetry::{metrics, trace};

/// Dead letters that wait for their confirm at one time.
const DEAD_LETTERING: usize = 64;

/// How long a recorded message waits for others to be acknowledged with it. If the worker dies meanwhile, it comes again
/// as a duplicate.
const LINGER: Duration = Duration::from_millis(50);

/// Messages that were taken in together.
pub struct Batch {
    /// Those that keep the contract, each with the span that ends with its acknowledgement.
    pub events: Vec<(Arc<Event>, Span)>,
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
    /// Ends with its acknowledgement.
    pub span: Span,
}

/// The acknowledging end of a consumer.
pub struct Acks {
    /// To the dead-letter exchange.
    pub publisher: Publisher,
    /// Its name.
    pub names: Names,
    /// So many messages are acknowledged without waiting for more.
    pub at_once: usize,
}

impl Acks {
    /// Acknowledges until no more batches come.
    ///
    /// # Errors
    /// Why the session has to end: messages that are not acknowledged come again.
    pub async fn run(self, mut batches: mpsc::Receiver<Batch>) -> Result<(), String> {
        while let Some(batch) = batches.recv().await {
            let until = clock::now() + LINGER;
            let (mut last, mut messages) = self.finish(batch).await?;
            // One acknowledgement for many: each is a write for the broker.
            while messages < self.at_once
                && let Ok(Some(batch)) = timeout(until.saturating_sub(clock::now()), batches.recv()).await
            {
                let more;
                (last, more) = self.finish(batch).await?;
                messages += more;
            }
            last.ack(BasicAckOptions { multiple: true }).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Waits until a batch is recorded, and has its dead letters confirmed. Gives its last message, which may be
    /// acknowledged, and how many there were.
    async fn finish(&self, batch: Batch) -> Result<(Acker, usize), String> {
        let Batch { events, admitted, mut poisoned, last } = batch;
        let outcomes = admitted.await.map_err(|_| "a partition has another owner".to_owned())?;
        let (mut all, mut duplicates) = (poisoned.len(), 0);
        for ((event, span), outcome) in events.iter().zip(outcomes) {
            all += 1;
            match outcome.admission {
                Admission::Join { .. } => {}
                Admission::Duplicate => duplicates += 1,
                Admission::Reject(poison) => poisoned.push(rejected(event, poison, span.clone())),
            }
        }
        metrics::received(all, duplicates);
        stream::iter(&poisoned).for_each_concurrent(DEAD_LETTERING, |poisoned| self.dead_letter(poisoned)).await;
        Ok((last, all))
    }

    /// Tries until the broker has confirmed it: only then is the message acknowledged.
    async fn dead_letter(&self, message: &Poisoned) {
        let Poisoned { routing_key, properties, body, poison, span } = message;
        trace::poisoned(span, poison.code());
        let trace = trace::traceparent(span);
        let (exchange, key) = (self.names.dead_letter(), properties.message_id().as_ref().map(ShortString::as_str));
        let _sending = trace::dead_letter(&exchange, routing_key, key, poison.code(), trace.as_ref());
        let headers = [
            ("onceward-reason", AMQPValue::LongString(poison.code().into())),
            ("onceward-detail", AMQPValue::LongString(poison.to_string().into())),
        ];
        let with_reason = with_headers(properties.clone(), headers);
        let mut delays = Delays::default();
        let mut told = false;
        while let Err(error) = self.publisher.store(&exchange, routing_key, with_reason.clone(), body).await {
            if !told {
                tracing::warn!(%error, reason = poison.code(), "a dead letter could not be published; it is tried again");
            }
            told = true;
            delays.wait().await;
        }
        metrics::dead_lettered(poison.code());
        let trace_id = trace.as_ref().map(trace::trace_id);
        tracing::info!(reason = poison.code(), entity = routing_key, trace_id, "dead letter: {poison}");
    }
}

fn rejected(event: &Event, poison: Poison, span: Span) -> Poisoned {
    Poisoned {
        routing_key: event.entity.to_string(),
        properties: wire::decode(&event.properties),
        body: event.body.clone(),
        poison,
        span,
    }
}
