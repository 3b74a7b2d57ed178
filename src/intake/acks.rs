//! Acknowledgements, after the commit and in its order.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use lapin::types::ShortString;
use lapin::{Acker, BasicProperties};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::Span;

use crate::broker::dead_letters::{About, DeadLetters};
use crate::broker::gatekeeper::ahead::Share;
use crate::broker::{letter, wire};
use crate::clock;
use crate::domain::admission::Admission;
use crate::domain::event::Event;
use crate::domain::poison::Poison;
use crate::reconnect::Delays;
use crate::store::admit::Admitted;
use crate::telemetry::{metrics, trace};

/// How long a recorded message waits for others to be acknowledged with it. If the worker dies meanwhile, it comes again
/// as a duplicate.
const LINGER: Duration = Duration::from_millis(50);
/// How long the end of a consumer waits for dead letters. Without them, messages come again, to the next owner.
const DEAD_LETTERS_WITHIN: Duration = Duration::from_secs(5);

/// Messages that were taken in together.
pub struct Batch {
    /// Those that keep the contract.
    pub events: Vec<(Arc<Event>, Open)>,
    /// What became of them.
    pub admitted: oneshot::Receiver<Vec<Admitted>>,
    /// Those that break it.
    pub poisoned: Vec<Poisoned>,
}

/// What is open of a message that was taken in.
pub struct Open {
    /// Ends with its acknowledgement.
    pub span: Span,
    /// Acknowledges it.
    pub acker: Acker,
    /// Of the memory for messages that are not recorded.
    pub share: Share,
}

/// Who writes a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letter {
    /// We do, with the reason.
    Ours,
    /// The message's queue, which has it as it came; we have only seen that it can't be read. The reason is in the log.
    TheQueues,
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
    /// Who writes its letter.
    pub letter: Letter,
    /// What ends with its acknowledgement.
    pub open: Open,
}

/// The acknowledging end of a consumer.
///
/// A message that is to be dead-lettered is acknowledged by itself, when its letter is confirmed, beside the others and never in
/// front of them. As long as there is one, none can be acknowledged for several.
pub struct Acks {
    /// To the dead-letter exchange.
    pub letters: DeadLetters,
    /// So many messages are acknowledged without waiting for more.
    pub at_once: usize,
}

impl Acks {
    /// Acknowledges until no more batches come.
    ///
    /// # Errors
    /// Why the session has to end: messages that are not acknowledged come again.
    pub async fn run(self, mut batches: mpsc::Receiver<Batch>) -> Result<(), String> {
        // As many as the broker sends ahead, at most.
        let mut under_way = JoinSet::new();
        while let Some(batch) = batches.recv().await {
            let until = clock::now() + LINGER;
            let mut recorded = self.finish(batch, &mut under_way).await?;
            // One acknowledgement for many: each is a write for the broker.
            while recorded.len() < self.at_once
                && let Ok(Some(batch)) = timeout(until.saturating_sub(clock::now()), batches.recv()).await
            {
                recorded.extend(self.finish(batch, &mut under_way).await?);
            }
            while let Some(ended) = under_way.try_join_next() {
                ended.map_err(|error| error.to_string())??;
            }
            acknowledge(&recorded, under_way.is_empty()).await?;
        }
        let ending = async {
            while let Some(ended) = under_way.join_next().await {
                ended.map_err(|error| error.to_string())??;
            }
            Ok(())
        };
        timeout(DEAD_LETTERS_WITHIN, ending).await.unwrap_or(Ok(()))
    }

    /// Waits until a batch is recorded, and sends its dead letters on their way. Gives the messages that may be acknowledged.
    async fn finish(&self, batch: Batch, under_way: &mut JoinSet<Result<(), String>>) -> Result<Vec<Acker>, String> {
        let Batch { events, admitted, mut poisoned } = batch;
        let outcomes = admitted.await.map_err(|_| "a partition has another owner".to_owned())?;
        let (mut recorded, mut duplicates) = (Vec::with_capacity(events.len()), 0);
        let all = poisoned.len() + events.len();
        for ((event, open), outcome) in events.into_iter().zip(outcomes) {
            match outcome.admission {
                Admission::Join { .. } | Admission::Redrive => recorded.push(open.acker),
                Admission::Duplicate => {
                    duplicates += 1;
                    recorded.push(open.acker);
                }
                Admission::Reject(poison) => poisoned.push(rejected(&event, poison, open)),
            }
        }
        metrics::received(all, duplicates);
        for message in poisoned {
            under_way.spawn(dead_letter(self.letters.clone(), message));
        }
        Ok(recorded)
    }
}

/// Acknowledges messages, in the order in which they came: all by the last of them, if nothing before it is still open.
async fn acknowledge(recorded: &[Acker], all: bool) -> Result<(), String> {
    let lost = |error: lapin::Error| error.to_string();
    if all && let Some(last) = recorded.last() {
        return last.ack(BasicAckOptions { multiple: true }).await.map(drop).map_err(lost);
    }
    for acker in recorded {
        acker.ack(BasicAckOptions::default()).await.map_err(lost)?;
    }
    Ok(())
}

/// Tries until the broker has confirmed the letter: only then is the message acknowledged. One whose letter the broker refuses
/// is rejected: its queue dead-letters it as it came.
async fn dead_letter(letters: DeadLetters, message: Poisoned) -> Result<(), String> {
    let Poisoned { routing_key, properties, body, poison, letter: writer, open } = message;
    let Open { span, acker, share: _share } = open;
    trace::poisoned(&span, poison.code());
    if writer == Letter::TheQueues {
        tracing::warn!(
            reason = poison.code(),
            entity = routing_key,
            "dead letter, as it came and without its reason: {poison}"
        );
        return reject(&acker, poison.code()).await;
    }
    let trace = trace::traceparent(&span);
    let key = properties.message_id().as_ref().map(ShortString::as_str);
    let _sending = trace::dead_letter(&letters.exchange(), &routing_key, key, poison.code(), trace.as_ref());
    let (reason, detail) = (poison.code(), poison.to_string());
    let about = About { original: &properties, routing_key: &routing_key, body: &body, reason, detail: &detail };
    let mut delays = Delays::default();
    let mut told = false;
    loop {
        let Err(error) = letters.publish(about, []).await else { break };
        // Without its own traces of dead-lettering; see there.
        if error.is_refusal() && !letter::has_deaths(&properties) {
            tracing::warn!(%error, reason, entity = routing_key, "a dead letter was refused in every form; the queue dead-letters the message as it came: {poison}");
            return reject(&acker, reason).await;
        }
        if !told {
            tracing::warn!(%error, reason, "a dead letter could not be published; it is tried again");
        }
        told = true;
        delays.wait().await;
    }
    metrics::dead_lettered(reason);
    let trace_id = trace.as_ref().map(trace::trace_id);
    tracing::info!(reason, entity = routing_key, trace_id, "dead letter: {poison}");
    acker.ack(BasicAckOptions::default()).await.map(drop).map_err(|error| error.to_string())
}

/// Leaves a message to its queue, which dead-letters it.
async fn reject(acker: &Acker, reason: &'static str) -> Result<(), String> {
    metrics::dead_lettered(reason);
    let options = BasicRejectOptions { requeue: false };
    acker.reject(options).await.map(drop).map_err(|error| error.to_string())
}

fn rejected(event: &Event, poison: Poison, open: Open) -> Poisoned {
    Poisoned {
        routing_key: event.entity.to_string(),
        properties: wire::decode(&event.properties),
        body: event.body.clone(),
        poison,
        letter: Letter::Ours,
        open,
    }
}
