//! A model of the broker: queues with one active consumer, messages that come again, buckets, dead letters.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::candidate::Token;
use crate::domain::event::{Digest, Event, EventId, IdempotencyKey};
use crate::domain::operator::Decided;

/// A message that a producer has published, and that the broker has confirmed.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// In the order of publishing.
    pub(super) number: u64,
    /// What it says; its partition is that of the queue that it came by.
    pub(super) event: Arc<Event>,
    pub(super) digest: Digest,
}

/// A message of a due queue.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    Wake(Token),
    Operate(Decided),
}

/// A dead letter.
#[derive(Clone, Debug)]
pub(super) struct Published {
    pub(super) key: IdempotencyKey,
    /// Of the event that failed; none for a message that was rejected.
    pub(super) failure: Option<(EventId, i64)>,
    pub(super) event: Arc<Event>,
}

/// Who consumes: a worker's slot, its run, and the epoch of its lease.
pub(super) type Who = (usize, u64, i64);

/// A queue, of which one consumer at a time gets messages.
pub(super) struct Queue<T> {
    pub(super) ready: VecDeque<T>,
    /// The first is the active one.
    consumers: VecDeque<Who>,
    unacked: BTreeMap<u64, T>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { ready: VecDeque::new(), consumers: VecDeque::new(), unacked: BTreeMap::new() }
    }
}

impl<T: Clone> Queue<T> {
    pub(super) fn consumer_count(&self) -> usize {
        self.consumers.len()
    }

    pub(super) fn subscribe(&mut self, who: Who) {
        self.consumers.push_back(who);
    }

    pub(super) fn active(&self) -> Option<Who> {
        self.consumers.front().copied()
    }

    /// Those of a worker's slot.
    pub(super) fn consumers_of(&self, slot: usize) -> Vec<Who> {
        self.consumers.iter().copied().filter(|(of, ..)| *of == slot).collect()
    }

    pub(super) fn is_active(&self, who: Who) -> bool {
        self.consumers.front() == Some(&who)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.unacked.is_empty()
    }

    /// A consumer goes; what it had not acknowledged is to be taken back, in its order.
    pub(super) fn unsubscribe(&mut self, who: Who) -> Vec<T> {
        let was_active = self.is_active(who);
        self.consumers.retain(|consumer| *consumer != who);
        if was_active { std::mem::take(&mut self.unacked).into_values().collect() } else { Vec::new() }
    }

    /// Takes messages for a consumer, up to so many that are not acknowledged.
    pub(super) fn take(&mut self, who: Who, prefetch: usize, tags: &mut u64) -> Vec<(u64, T)> {
        let mut taken = Vec::new();
        while self.is_active(who) && self.unacked.len() < prefetch {
            let Some(message) = self.ready.pop_front() else { break };
            *tags += 1;
            self.unacked.insert(*tags, message.clone());
            taken.push((*tags, message));
        }
        taken
    }

    pub(super) fn ack(&mut self, who: Who, tag: u64) {
        if self.is_active(who) {
            self.unacked.remove(&tag);
        }
    }

    /// Messages are back, in front of all others.
    pub(super) fn take_back(&mut self, messages: Vec<T>) {
        for message in messages.into_iter().rev() {
            self.ready.push_front(message);
        }
    }

    /// Everybody's connection is gone.
    pub(super) fn restart(&mut self) {
        let back = std::mem::take(&mut self.unacked).into_values().collect();
        self.take_back(back);
        self.consumers.clear();
    }
}

/// Everything at the broker.
pub(super) struct Broker {
    pub(super) queues: Vec<Queue<Message>>,
    pub(super) due: Vec<Queue<Due>>,
    pub(super) letters: Vec<Published>,
    /// The partition of each bucket.
    pub(super) buckets: Vec<usize>,
    pub(super) tags: u64,
    pub(super) loses_tokens_until: Duration,
    pub(super) doubles_tokens_until: Duration,
    pub(super) slow_until: Duration,
}

impl Broker {
    pub(super) fn new(partitions: u16) -> Self {
        let partitions = usize::from(partitions);
        Self {
            queues: (0..partitions).map(|_| Queue::default()).collect(),
            due: (0..partitions).map(|_| Queue::default()).collect(),
            letters: Vec::new(),
            buckets: (0..partitions).collect(),
            tags: 0,
            loses_tokens_until: Duration::ZERO,
            doubles_tokens_until: Duration::ZERO,
            slow_until: Duration::ZERO,
        }
    }

    /// The partition of an entity of this number.
    pub(super) fn partition_of(&self, entity: usize) -> usize {
        self.buckets[entity % self.buckets.len()]
    }
}
