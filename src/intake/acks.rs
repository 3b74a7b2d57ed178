//! Acknowledgements, after the commit and in its order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use lapin::types::ShortString;
use lapin::{Acker, BasicProperties};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;
use tracing::Span;

use crate::broker::dead_letters::{About, DeadLetters};
use crate::broker::gatekeeper::ahead::Share;
use crate::broker::{letter, wire};
use crate::clock;
use crate::domain::admission::Admission;
use crate::domain::event::Event;
use crate::domain::poison::Poison;
use crate::engine::command::Admitted;
use crate::reconnect::Delays;
use crate::telemetry::{metrics, trace};

/// How long a message that has come to its end here waits for others to be acknowledged with it. If the worker dies meanwhile, it
/// comes again as a duplicate.
const LINGER: Duration = Duration::from_millis(50);
/// How long the end of a consumer waits for dead letters. Without them, messages come again, to the next owner.
const DEAD_LETTERS_WITHIN: Duration = Duration::from_secs(5);

/// Messages that were ingested together.
pub struct Batch {
    /// Those that keep the contract.
    pub events: Vec<(Arc<Event>, Open)>,
    /// What became of them, a part at a time.
    pub admitted: mpsc::Receiver<Vec<Admitted>>,
    /// Those that break it.
    pub poisoned: Vec<Poisoned>,
}

/// What is open of a message that was ingested.
pub struct Open {
    /// Ends when it is recorded, or its dead letter is confirmed.
    pub span: Span,
    /// The broker's number of the delivery: later ones have greater numbers.
    pub tag: u64,
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
/// A message that is to be dead-lettered is acknowledged when its letter is confirmed, and never before. The others don't wait
/// for it: if it takes long, they are acknowledged beside it, each by itself.
pub struct Acks {
    /// To the dead-letter exchange.
    pub letters: DeadLetters,
    /// So many messages are acknowledged without waiting for more.
    pub at_once: usize,
}

/// Dead letters that are being published: the message's tag, and its acknowledgement, unless it is left to its queue.
type UnderWay = JoinSet<Result<(u64, Option<Acker>), String>>;

impl Acks {
    /// Acknowledges until no more batches come.
    ///
    /// # Errors
    /// Why the session has to end: messages that are not acknowledged come again.
    pub async fn run(self, mut batches: mpsc::Receiver<Batch>) -> Result<(), String> {
        // As many as the broker sends ahead, at most.
        let (mut under_way, mut ended) = (UnderWay::new(), Ended::default());
        loop {
            tokio::select! {
                batch = batches.recv() => {
                    let Some(batch) = batch else { break };
                    if let Err(why) = self.finish(batch, &mut under_way, &mut ended).await {
                        // What is recorded need not come again, nor what is behind it and has its letter.
                        let _ = ended.acknowledge().await;
                        let _ = ended.acknowledge().await;
                        return Err(why);
                    }
                }
                Some(letter) = under_way.join_next() => ended.letter(letter)?,
                () = ended.linger() => ended.acknowledge().await?,
            }
            while let Some(letter) = under_way.try_join_next() {
                ended.letter(letter)?;
            }
            // One acknowledgement for many: each is a write for the broker.
            if ended.ready.len() >= self.at_once {
                ended.acknowledge().await?;
            }
        }
        let until = clock::now() + DEAD_LETTERS_WITHIN;
        while !under_way.is_empty() && clock::now() < until {
            tokio::select! {
                Some(letter) = under_way.join_next() => ended.letter(letter)?,
                () = sleep(LINGER) => ended.acknowledge().await?,
            }
        }
        ended.acknowledge().await?;
        // What is behind a letter that is not confirmed.
        ended.acknowledge().await
    }

    /// Sends the dead letters of a batch on their way, and waits until the rest is recorded.
    async fn finish(&self, batch: Batch, under_way: &mut UnderWay, ended: &mut Ended) -> Result<(), String> {
        let Batch { events, mut admitted, poisoned } = batch;
        metrics::received(poisoned.len(), 0);
        for message in poisoned {
            self.letter(message, under_way, ended);
        }
        // They may be recorded later than the letters behind them are confirmed.
        ended.open.extend(events.iter().map(|(_, open)| open.tag));
        let mut events = events.into_iter();
        while events.len() > 0 {
            let outcomes = tokio::select! {
                outcomes = admitted.recv() => outcomes.ok_or_else(|| "a partition has another owner".to_owned())?,
                Some(letter) = under_way.join_next() => {
                    ended.letter(letter)?;
                    continue;
                }
                // The rest of the batch may wait for its host.
                () = ended.linger() => {
                    ended.acknowledge().await?;
                    continue;
                }
            };
            let (all, mut duplicates) = (outcomes.len(), 0);
            for (outcome, (event, open)) in outcomes.into_iter().zip(&mut events) {
                match outcome.admission {
                    Admission::Join { .. } | Admission::Redrive => ended.recorded(open),
                    Admission::Duplicate => {
                        duplicates += 1;
                        ended.recorded(open);
                    }
                    Admission::Reject(poison) => self.letter(rejected(&event, poison, open), under_way, ended),
                }
            }
            metrics::received(all, duplicates);
        }
        Ok(())
    }

    fn letter(&self, message: Poisoned, under_way: &mut UnderWay, ended: &mut Ended) {
        ended.open.insert(message.open.tag);
        under_way.spawn(dead_letter(self.letters.clone(), message));
    }
}

/// Messages that have come to their end here, and what must not be acknowledged with them.
#[derive(Default)]
struct Ended {
    /// Not acknowledged yet, by their tags.
    ready: BTreeMap<u64, Acker>,
    /// Tags of those whose letters are under way, or that are not recorded yet.
    open: BTreeSet<u64>,
    /// When the first of what is ready became so, or was last left for want of those in front of it.
    since: Duration,
}

impl Ended {
    fn recorded(&mut self, open: Open) {
        self.open.remove(&open.tag);
        self.add(open.tag, open.acker);
    }

    fn letter(&mut self, letter: Result<Result<(u64, Option<Acker>), String>, JoinError>) -> Result<(), String> {
        let (tag, acker) = letter.map_err(|error| error.to_string())??;
        self.open.remove(&tag);
        if let Some(acker) = acker {
            self.add(tag, acker);
        }
        Ok(())
    }

    fn add(&mut self, tag: u64, acker: Acker) {
        if self.ready.is_empty() {
            self.since = clock::now();
        }
        self.ready.insert(tag, acker);
    }

    /// Waits until there is something that has waited for long enough.
    async fn linger(&self) {
        if self.ready.is_empty() {
            std::future::pending::<()>().await;
        }
        sleep((self.since + LINGER).saturating_sub(clock::now())).await;
    }

    /// Acknowledges what is in front of the first message that has not come to its end, all by the last of it. If nothing is,
    /// that one takes long: then all the others, each by itself.
    async fn acknowledge(&mut self) -> Result<(), String> {
        let lost = |error: lapin::Error| error.to_string();
        let behind = self.open.first().map(|first| self.ready.split_off(first)).unwrap_or_default();
        let front = std::mem::replace(&mut self.ready, behind);
        self.since = clock::now();
        if let Some(last) = front.into_values().next_back() {
            return last.ack(BasicAckOptions { multiple: true }).await.map(drop).map_err(lost);
        }
        for acker in std::mem::take(&mut self.ready).into_values() {
            acker.ack(BasicAckOptions::default()).await.map_err(lost)?;
        }
        Ok(())
    }
}

/// Tries until the broker has confirmed the letter: only then may the message be acknowledged. One whose letter the broker
/// refuses is rejected: its queue dead-letters it as it came.
async fn dead_letter(letters: DeadLetters, message: Poisoned) -> Result<(u64, Option<Acker>), String> {
    let Poisoned { routing_key, properties, body, poison, letter: writer, open } = message;
    let Open { span, tag, acker, share: _share } = open;
    trace::poisoned(&span, poison.code());
    if writer == Letter::TheQueues {
        tracing::warn!(
            reason = poison.code(),
            entity = routing_key,
            "dead letter, as it came and without its reason: {poison}"
        );
        return reject(&acker, poison.code()).await.map(|()| (tag, None));
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
            return reject(&acker, reason).await.map(|()| (tag, None));
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
    Ok((tag, Some(acker)))
}

/// Leaves a message to its queue, which dead-letters it.
async fn reject(acker: &Acker, reason: &'static str) -> Result<(), String> {
    metrics::dead_lettered(reason);
    let options = BasicRejectOptions { requeue: false };
    acker.reject(options).await.map(drop).map_err(|error| error.to_string())
}

fn rejected(event: &Event, poison: Poison, open: Open) -> Poisoned {
    let properties = wire::decode(&event.properties);
    Poisoned {
        routing_key: letter::routing_key(&properties, event.entity.as_str()),
        properties,
        body: event.body.clone(),
        poison,
        letter: Letter::Ours,
        open,
    }
}
