//! Tokens, letters, and the sweeps that find what was lost of them.

use std::time::Duration;

use super::broker::{Due, Published};
use super::consuming::queue;
use super::messages::{Request, Swept};
use super::rules::Rule;
use super::store::Letter;
use super::worker::Worker;
use super::world::{Happening, Timer, World};
use crate::domain::event::{EventId, Partition};
use crate::engine::input::{Input, Wake};
use crate::lease::Held;

/// The pause between two sweeps.
const EVERY: Duration = Duration::from_secs(1);
/// The pause between two deletions.
const EXPIRE_EVERY: Duration = Duration::from_secs(3);

impl World {
    /// A token goes through the delay ladder.
    pub(super) fn send_token(&mut self, wake: &Wake) {
        let arrives = self.now + wake.delay + self.some(1_000, 100_000);
        let happening = || Happening::Due(queue(wake.partition), Due::Wake(wake.token));
        if self.broker.loses_tokens_until > self.now {
            return;
        }
        self.agenda.enter(arrives, happening());
        if self.broker.doubles_tokens_until > self.now {
            let late = arrives + self.some(0, 9_000_000);
            self.agenda.enter(late, happening());
        }
    }

    /// The letter of a FAILED event is read from the outbox, published, and marked.
    pub(super) fn announce(&mut self, worker: &mut Worker, id: EventId, held: Held) {
        if worker.letters_under_way.contains(&id) || !held.covers(worker.clock.shows(self.now)) {
            return;
        }
        worker.letters_under_way.insert(id);
        self.ask(worker, Request::Letter(id, held));
    }

    pub(super) fn publish_letter(&mut self, worker: &mut Worker, letter: &Letter, id: EventId, held: &Held) {
        let failed_us = letter.failed_us;
        let (partition, epoch) = (held.partition(), held.epoch());
        let confirms_first = self.keeps(Rule::ConfirmLetters);
        let slow = self.broker.slow_until.saturating_sub(self.now);
        let is_lost = !slow.is_zero() && self.chance.below(3) == 0;
        if !is_lost && let Some(kept) = self.store.events.get(&id) {
            let (key, event) = (kept.event.key.clone(), kept.event.clone());
            self.broker.letters.push(Published { key, failure: Some((id, failed_us)), event });
        }
        if is_lost && confirms_first {
            worker.letters_under_way.remove(&id);
            return;
        }
        let latency = slow + self.some(500, 5_000);
        self.after(worker, latency, Timer::Confirmed(id, failed_us, partition, epoch));
    }

    pub(super) fn confirmed(&mut self, worker: &mut Worker, id: EventId, failed_us: i64, on: Partition, epoch: i64) {
        self.ask(worker, Request::MarkPublished(id, failed_us, on, epoch));
    }

    pub(super) fn sweep(&mut self, worker: &mut Worker) {
        let partitions: Vec<Partition> = worker.hold_all().iter().map(Held::partition).collect();
        if !partitions.is_empty() && !worker.draining {
            self.ask(worker, Request::Sweep(partitions));
        }
        self.after_own(worker, EVERY, Timer::Sweep);
    }

    pub(super) fn swept(&mut self, worker: &mut Worker, swept: Swept) {
        if worker.draining {
            return;
        }
        let Swept { overdue, hosts, strays, suspects, letters } = swept;
        for (id, partition) in letters {
            let held = worker.hold_all().into_iter().find(|held| held.partition() == partition);
            if let Some(held) = held {
                self.announce(worker, id, held);
            }
        }
        for (partition, entity, token) in overdue {
            self.feed(worker, Input::Overdue(partition, entity, token));
        }
        for host in hosts {
            self.feed(worker, Input::Parked(host));
        }
        if strays {
            self.feed(worker, Input::Strays);
        }
        if !suspects.is_empty() {
            self.feed(worker, Input::Suspects(suspects));
        }
    }

    /// The owner of the first partition deletes what has expired, for all.
    pub(super) fn expire(&mut self, worker: &mut Worker) {
        let is_first = worker.hold_all().iter().any(|held| held.partition() == Partition(0));
        if let Some(after) = self.expires_after.filter(|_| is_first) {
            self.ask(worker, Request::Expire(after));
        }
        self.after_own(worker, EXPIRE_EVERY, Timer::Expire);
    }
}
