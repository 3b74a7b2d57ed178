//! After the commit, a retry's wake-up or a FAILED event's dead letter goes to the broker.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use http::HeaderValue;
use lapin::types::AMQPValue;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::broker::dead_letters::{About, DeadLetters};
use crate::broker::delay::{self, Due};
use crate::broker::letter::{routing_key, text};
use crate::broker::wire;
use crate::clock;
use crate::domain::event::EventId;
use crate::engine::input::Wake;
use crate::handoff::DeadLettered;
use crate::lease::Held;
use crate::reconnect::Delays;
use crate::store::outbox::{self, DeadLetter};
use crate::telemetry::{metrics, trace, transaction};

/// Wake-ups that wait for their confirm at one time.
const WAKING: usize = 256;
/// Dead letters that wait for their confirm at one time.
const DEAD_LETTERING: usize = 64;
/// How long the confirm of a dead letter may hold up the handover of its partition.
const HANDOVER_AFTER: Duration = Duration::from_secs(5);

/// Tells the broker what was committed. Nothing is lost if it can't: sweeps find overdue retries and dead letters that
/// were left behind.
pub struct Announcer {
    /// To the broker: dead letters.
    pub letters: DeadLetters,
    /// To the outbox.
    pub pool: PgPool,
    /// Dead letters that are being published: a sweep that names one of them again makes no copy of it.
    pub under_way: Mutex<HashSet<EventId>>,
}

/// An entry of [`Announcer::under_way`], until it is dropped.
struct UnderWay<'a>(&'a Mutex<HashSet<EventId>>, EventId);

impl<'a> UnderWay<'a> {
    /// None if it is under way already.
    fn enter(all: &'a Mutex<HashSet<EventId>>, id: EventId) -> Option<Self> {
        let is_new = all.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        // Only then: one that is dropped takes the entry away, and locks.
        is_new.then(|| Self(all, id))
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Announcer {
    /// Announces until no more wake-ups and dead letters come. The ones don't wait behind the others.
    pub async fn run(self, wakes: mpsc::Receiver<Wake>, dead_letters: mpsc::Receiver<DeadLettered>) {
        tokio::join!(self.wake_all(wakes), self.dead_letter_all(dead_letters));
    }

    async fn wake_all(&self, wakes: mpsc::Receiver<Wake>) {
        ReceiverStream::new(wakes).for_each_concurrent(WAKING, |wake| self.wake(wake)).await;
    }

    async fn dead_letter_all(&self, letters: mpsc::Receiver<DeadLettered>) {
        ReceiverStream::new(letters).for_each_concurrent(DEAD_LETTERING, |letter| self.dead_letter(letter)).await;
    }

    async fn wake(&self, Wake { partition, token, delay }: Wake) {
        let key = delay::routing_key(delay, partition);
        let (entry, body) = (self.letters.names.delay_entry(delay), Due::Wake(token).write());
        let sent = self.letters.publisher.send(&entry, &key, body.as_bytes()).await;
        if let Err(error) = sent {
            tracing::debug!(%error, "a wake-up was not published; the sweep finds the retry when it is overdue");
        }
    }

    async fn dead_letter(&self, DeadLettered { id, held }: DeadLettered) {
        let Some(_under_way) = UnderWay::enter(&self.under_way, id) else { return };
        if !held.covers(clock::now()) {
            // Whoever owns the partition finds it in the outbox.
            return;
        }
        let letter = match transaction("read_dead_letter", outbox::unpublished_one(&self.pool, id)).await {
            Ok(Some(letter)) => letter,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, event = %id, "a dead letter could not be read; it is tried again");
                return;
            }
        };
        let handed_over = async {
            held.lease().closed().await;
            tokio::time::sleep(HANDOVER_AFTER).await;
        };
        tokio::select! {
            () = self.publish(id, &letter, &held) => {}
            () = handed_over => tracing::warn!(
                event = %id,
                "the broker has not confirmed a dead letter before its partition was handed over; the next owner publishes it again"
            ),
        }
    }

    async fn publish(&self, id: EventId, letter: &DeadLetter, held: &Held) {
        let (exchange, detail) = (self.letters.exchange(), detail(letter));
        let trace = letter.trace.as_deref().and_then(|trace| HeaderValue::from_str(trace).ok());
        let key = Some(letter.idempotency_key.as_str());
        let original = wire::decode(&letter.properties);
        let routing_key = routing_key(&original, &letter.entity);
        let _sending = trace::dead_letter(&exchange, &routing_key, key, &letter.reason, trace.as_ref());
        let about = About {
            original: &original,
            routing_key: &routing_key,
            body: &letter.body,
            reason: &letter.reason,
            detail: &detail,
        };
        let more = [
            ("onceward-attempts", AMQPValue::LongLongInt(letter.attempts.into())),
            ("onceward-history", text(&letter.history)),
        ];
        if let Err(error) = self.letters.publish(about, more).await {
            tracing::warn!(%error, event = %id, "a dead letter could not be published; it is tried again");
            return;
        }
        let trace_id = trace.as_ref().map(trace::trace_id);
        tracing::info!(event = %id, reason = letter.reason, attempts = letter.attempts, trace_id, "dead letter");
        metrics::dead_lettered(&letter.reason);
        // As long as this is not recorded, a sweep would publish it again.
        let mut delays = Delays::default();
        while let Err(error) = transaction("mark_published", outbox::mark_published(&self.pool, letter, held)).await {
            tracing::debug!(%error, event = %id, "a dead letter is published, which could not be recorded; it is tried again");
            if held.is_lost() {
                return;
            }
            delays.wait().await;
        }
    }
}

/// Why an event is FAILED, as a sentence.
fn detail(letter: &DeadLetter) -> String {
    match letter.reason.as_str() {
        "exhausted" => format!("all {} attempts failed", letter.attempts),
        "outcome_unknown" => "its worker stopped during the attempt, again and again".to_owned(),
        "final_status" => format!("attempt {} was answered with a status that is not retried", letter.attempts),
        "forbidden_destination" => last_error(letter).unwrap_or_else(|| "its destination is forbidden".to_owned()),
        reason => reason.to_owned(),
    }
}

/// What the last attempt left in the history.
fn last_error(letter: &DeadLetter) -> Option<String> {
    let history: Vec<serde_json::Value> = serde_json::from_str(&letter.history).ok()?;
    history.last()?.get("error")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_is_under_way_once_at_a_time() {
        let all = Mutex::default();
        let first = UnderWay::enter(&all, EventId(7));
        assert!(first.is_some() && UnderWay::enter(&all, EventId(7)).is_none());
        assert!(UnderWay::enter(&all, EventId(8)).is_some());
        drop(first);
        assert!(UnderWay::enter(&all, EventId(7)).is_some());
    }
}
