//! An attempt's outcome becomes a state; after the commit, a retry's wake-up or a dead letter goes to the broker.

use std::hash::{BuildHasher as _, RandomState};

use futures_util::StreamExt as _;
use http::HeaderValue;
use lapin::BasicProperties;
use lapin::types::AMQPValue;
use sqlx::PgPool;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::broker::delay::{self, Due};
use crate::broker::publisher::{Publisher, with_headers};
use crate::broker::topology::Names;
use crate::broker::wire;
use crate::clock;
use crate::domain::event::{EventId, Partition};
use crate::domain::verdict::Policy;
use crate::handoff::{Announcement, Ended};
use crate::store::lease::Held;
use crate::store::outbox::{self, DeadLetter};
use crate::store::progress::Settlement;
use crate::telemetry::{metrics, trace};

/// Announcements that wait for their confirm at one time.
const ANNOUNCING: usize = 256;

/// The settings of a verdict.
#[derive(Clone, Debug)]
pub struct Judge {
    /// Attempts, delays, final statuses.
    pub policy: Policy,
    /// A FAILED event keeps its entity waiting.
    pub hold: bool,
    /// Makes every worker's jitter its own.
    pub seed: RandomState,
}

impl Judge {
    /// What is recorded of an attempt that has ended.
    #[must_use]
    pub fn settlement(&self, ended: Ended) -> Settlement {
        let Ended { candidate, held, outcome, took } = ended;
        let seed = self.seed.hash_one((candidate.id, candidate.attempts));
        let decision = self.policy.judge(candidate.attempts, &outcome, seed);
        Settlement { candidate, held, outcome, decision, took, hold: self.hold }
    }
}

/// Judges attempts that have ended, until no more come.
pub async fn run(mut ended: mpsc::Receiver<Ended>, settlements: mpsc::Sender<Settlement>, judge: Judge) {
    while let Some(ended) = ended.recv().await {
        if settlements.send(judge.settlement(ended)).await.is_err() {
            return;
        }
    }
}

/// Tells the broker what was committed. Nothing is lost if it can't: sweeps find overdue retries and dead letters that
/// were left behind.
pub struct Announcer {
    /// To the broker.
    pub publisher: Publisher,
    /// The names of exchanges and queues.
    pub names: Names,
    /// To the outbox.
    pub pool: PgPool,
}

impl Announcer {
    /// Announces until no more announcements come.
    pub async fn run(self, announcements: mpsc::Receiver<Announcement>) {
        ReceiverStream::new(announcements)
            .for_each_concurrent(ANNOUNCING, |announcement| self.announce(announcement))
            .await;
    }

    async fn announce(&self, announcement: Announcement) {
        match announcement {
            Announcement::Wake(partition, token, delay) => {
                self.send_due(partition, &Due::Wake(token), delay).await;
            }
            Announcement::DeadLetter(id, held) => self.dead_letter(id, &held).await,
        }
    }

    async fn send_due(&self, partition: Partition, due: &Due, delay: std::time::Duration) {
        let key = delay::routing_key(delay, partition);
        let (entry, body) = (self.names.delay_entry(delay), due.write());
        let sent = self.publisher.send(&entry, &key, body.as_bytes()).await;
        if let Err(error) = sent {
            tracing::debug!(%error, "a wake-up was not published; the sweep finds the retry when it is overdue");
        }
    }

    async fn dead_letter(&self, id: EventId, held: &Held) {
        if !held.covers(clock::now()) {
            // Whoever owns the partition finds it in the outbox.
            return;
        }
        let letter = match outbox::unpublished_one(&self.pool, id).await {
            Ok(Some(letter)) => letter,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, event = %id, "a dead letter could not be read; it is tried again");
                return;
            }
        };
        let (exchange, properties) = (self.names.dead_letter(), properties(&letter));
        let trace = letter.trace.as_deref().and_then(|trace| HeaderValue::from_str(trace).ok());
        let key = Some(letter.idempotency_key.as_str());
        let _sending = trace::dead_letter(&exchange, &letter.entity, key, &letter.reason, trace.as_ref());
        match self.publisher.store(&exchange, &letter.entity, properties, &letter.body).await {
            Ok(()) => {
                let trace_id = trace.as_ref().map(trace::trace_id);
                tracing::info!(event = %id, reason = letter.reason, attempts = letter.attempts, trace_id, "dead letter");
                metrics::dead_lettered(&letter.reason);
                if let Err(error) = outbox::mark_published(&self.pool, id, held).await {
                    tracing::warn!(%error, event = %id, "a dead letter may be published a second time");
                }
            }
            Err(error) => {
                tracing::warn!(%error, event = %id, "a dead letter could not be published; it is tried again");
            }
        }
    }
}

/// The original properties and headers, and why the event is here.
fn properties(letter: &DeadLetter) -> BasicProperties {
    let detail = match letter.reason.as_str() {
        "exhausted" => format!("all {} attempts failed", letter.attempts),
        "final_status" => format!("attempt {} was answered with a status that is not retried", letter.attempts),
        reason => reason.to_owned(),
    };
    with_headers(
        wire::decode(&letter.properties),
        [
            ("onceward-reason", AMQPValue::LongString(letter.reason.as_str().into())),
            ("onceward-detail", AMQPValue::LongString(detail.into())),
            ("onceward-attempts", AMQPValue::LongLongInt(letter.attempts.into())),
            ("onceward-history", AMQPValue::LongString(letter.history.as_str().into())),
        ],
    )
}
