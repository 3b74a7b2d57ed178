//! A worker's consumers: messages come in, and are acknowledged when they are recorded.

use std::sync::Arc;
use std::time::Duration;

use super::broker::{Due, Message, Published, Who};
use super::rules::Rule;
use super::worker::{Asked, Consumer, Worker};
use super::world::{Happening, LEASE, Timer, World};
use crate::domain::admission::Admission;
use crate::domain::event::Partition;
use crate::engine::command::{Admitted, Arrival, Place, Ticket};
use crate::engine::input::Input;
use crate::lease::{Held, Lease};

/// Messages that the broker sends ahead.
const PREFETCH: usize = 8;
/// How long the broker may take from counting a consumer out to taking its messages back, in microseconds.
const TAKE_BACK: u64 = 200_000;
/// How long a new owner gives it for that.
const WAITS: Duration = Duration::from_millis(250);

/// The number of a partition's queue.
pub(super) fn queue(partition: Partition) -> usize {
    usize::try_from(partition.0).unwrap_or(0)
}

impl World {
    /// Consumers come and go with the leases.
    pub(super) fn tend_consumers(&mut self, worker: &mut Worker) {
        let done: Vec<Partition> = (worker.consumers.iter())
            .filter(|(_, consumer)| {
                let lease = consumer.held.lease();
                let has_lapsed = consumer.is_open && !self.is_covered(worker, &consumer.held);
                lease.is_lost() || (lease.is_closed() && consumer.unanswered == 0) || has_lapsed
            })
            .map(|(partition, _)| *partition)
            .collect();
        self.close_consumers(worker, |partition| done.contains(&partition));
        let new: Vec<_> =
            worker.owned.iter().filter(|lease| !worker.consumers.contains_key(&lease.partition)).collect();
        let new: Vec<_> = new.into_iter().filter_map(Lease::hold).collect();
        for held in new {
            let (partition, epoch) = (held.partition(), held.epoch());
            worker.consumers.insert(partition, Consumer { held, is_open: false, since: self.now, unanswered: 0 });
            self.after(worker, Duration::from_millis(1), Timer::Poll(partition, epoch));
        }
    }

    pub(super) fn close_consumers(&mut self, worker: &mut Worker, which: impl Fn(Partition) -> bool) {
        let closed: Vec<_> = worker.consumers.extract_if(.., |partition, _| which(*partition)).collect();
        for (partition, consumer) in closed {
            let epoch = consumer.held.epoch();
            self.unsubscribe(queue(partition), (worker.slot, worker.run, epoch));
            worker.tickets.retain(|_, asked| asked.consumer() != (partition, epoch));
        }
    }

    fn unsubscribe(&mut self, number: usize, who: Who) {
        let back = self.broker.queues[number].unsubscribe(who);
        let later = self.now + self.some(0, TAKE_BACK);
        self.agenda.enter(later, Happening::Requeue(number, back));
        let back = self.broker.due[number].unsubscribe(who);
        self.agenda.enter(later, Happening::RequeueDue(number, back));
        self.wake_consumers();
    }

    /// A worker's connection is gone: so are its consumers.
    pub(super) fn drop_connection(&mut self, slot: usize) {
        for number in 0..self.broker.queues.len() {
            let consumers = self.broker.queues[number].consumers_of(slot);
            for who in consumers {
                self.unsubscribe(number, who);
            }
        }
        if let Some(mut worker) = self.slots[slot].worker.take() {
            worker.consumers.clear();
            worker.tickets.clear();
            self.slots[slot].worker = Some(worker);
        }
    }

    /// Whether a lease counts: a consumer must not outlast it, though nobody has said that it is lost.
    fn is_covered(&self, worker: &Worker, held: &Held) -> bool {
        held.covers(worker.clock.shows(self.now)) || !self.keeps(Rule::ConsumeUnderLease)
    }

    /// Looks whether nobody consumes any more.
    pub(super) fn poll(&mut self, worker: &mut Worker, partition: Partition, epoch: i64) {
        let Some(consumer) =
            worker.consumers.get(&partition).filter(|consumer| consumer.held.epoch() == epoch && !consumer.is_open)
        else {
            return;
        };
        let waits = self.keeps(Rule::WaitUntilAlone);
        if !self.is_covered(worker, &consumer.held) {
            return self.after(worker, Duration::from_millis(200), Timer::Poll(partition, epoch));
        }
        if waits && self.broker.queues[queue(partition)].consumer_count() > 0 {
            if self.now > consumer.since + LEASE * 2 {
                self.promises.starved(partition, worker.who());
            }
            return self.after(worker, Duration::from_millis(20), Timer::Poll(partition, epoch));
        }
        let lease = consumer.held.lease();
        let graceful = lease.graceful && !lease.was_alone();
        let wait = if graceful || !waits { Duration::from_millis(20) } else { WAITS };
        self.after(worker, wait, Timer::Subscribe(partition, epoch));
    }

    pub(super) fn subscribe(&mut self, worker: &mut Worker, partition: Partition, epoch: i64) {
        let who = (worker.slot, worker.run, epoch);
        let is_covered = worker.consumers.get(&partition).is_some_and(|c| self.is_covered(worker, &c.held));
        let consumer = worker.consumers.get_mut(&partition);
        let Some(consumer) = consumer.filter(|consumer| consumer.held.epoch() == epoch && !consumer.is_open) else {
            return;
        };
        if !is_covered {
            return self.after(worker, Duration::from_millis(200), Timer::Poll(partition, epoch));
        }
        consumer.held.lease().note_alone();
        consumer.is_open = true;
        self.broker.queues[queue(partition)].subscribe(who);
        self.broker.due[queue(partition)].subscribe(who);
        self.wake_consumers();
    }

    /// Whoever consumes looks whether there is anything.
    pub(super) fn wake_consumers(&mut self) {
        for number in 0..self.broker.queues.len() {
            let partition = Partition(i32::try_from(number).unwrap_or(0));
            let is_empty = self.broker.queues[number].ready.is_empty() && self.broker.due[number].ready.is_empty();
            let active = self.broker.queues[number].active().filter(|_| !is_empty);
            if let Some((slot, run, epoch)) = active {
                let latency = self.some(200, 2_000);
                let timer = Timer::Take(partition, epoch);
                self.agenda.enter(self.now + latency, Happening::At((slot, run), timer));
            }
        }
    }

    pub(super) fn take(&mut self, worker: &mut Worker, partition: Partition, epoch: i64) {
        let who = (worker.slot, worker.run, epoch);
        let consumer = worker.consumers.get(&partition);
        let Some(held) = consumer.filter(|c| c.is_open && c.held.epoch() == epoch).map(|c| c.held.clone()) else {
            return;
        };
        if held.lease().is_closed() {
            return;
        }
        let due = self.broker.due[queue(partition)].take(who, PREFETCH, &mut self.broker.tags);
        for (tag, due) in due {
            self.take_due(worker, partition, epoch, (tag, due));
        }
        let messages = self.broker.queues[queue(partition)].take(who, PREFETCH, &mut self.broker.tags);
        if messages.is_empty() {
            return;
        }
        let arrivals = messages.iter().map(|(_, message)| {
            let mut event = message.event.clone();
            Arc::make_mut(&mut event).partition = partition;
            let digest = message.digest;
            Arrival { event, digest, held: held.clone(), place: Place::Store, unstorable: None }
        });
        let arrivals = arrivals.collect();
        let ticket = worker.ticket();
        if !self.keeps(Rule::AcknowledgeAfterCommit) {
            for (tag, _) in &messages {
                self.broker.queues[queue(partition)].ack(who, *tag);
            }
        }
        worker.tickets.insert(ticket, Asked::Batch { partition, epoch, messages: messages.into() });
        Self::count_unanswered(worker, partition, 1);
        self.feed(worker, Input::Arrived { ticket, arrivals });
    }

    fn take_due(&mut self, worker: &mut Worker, partition: Partition, epoch: i64, (tag, due): (u64, Due)) {
        match due {
            Due::Wake(token) => {
                self.broker.due[queue(partition)].ack((worker.slot, worker.run, epoch), tag);
                self.feed(worker, Input::Due(partition, token));
            }
            Due::Operate(decided) => {
                let ticket = worker.ticket();
                worker.tickets.insert(ticket, Asked::Decision { partition, epoch, tag });
                Self::count_unanswered(worker, partition, 1);
                self.feed(worker, Input::Operate(ticket, partition, decided));
            }
        }
    }

    fn count_unanswered(worker: &mut Worker, partition: Partition, by: isize) {
        if let Some(consumer) = worker.consumers.get_mut(&partition) {
            consumer.unanswered = consumer.unanswered.saturating_add_signed(by);
        }
    }

    /// What became of arrivals: those that are recorded are acknowledged, and those that are refused get a letter first.
    pub(super) fn admitted(&mut self, worker: &mut Worker, ticket: Ticket, outcomes: Vec<Admitted>) {
        let Some(Asked::Batch { partition, epoch, messages }) = worker.tickets.get_mut(&ticket) else { return };
        let (partition, epoch) = (*partition, *epoch);
        let answered: Vec<(u64, Message)> = messages.drain(..outcomes.len().min(messages.len())).collect();
        let is_last = messages.is_empty();
        for ((tag, message), outcome) in answered.into_iter().zip(outcomes) {
            if let Admission::Reject(_) = outcome.admission {
                let Message { event, .. } = message;
                self.broker.letters.push(Published { key: event.key.clone(), failure: None, event });
            } else if outcome.id.is_some() {
                self.promises.recorded(&message);
            }
            self.broker.queues[queue(partition)].ack((worker.slot, worker.run, epoch), tag);
        }
        if is_last {
            worker.tickets.remove(&ticket);
            Self::count_unanswered(worker, partition, -1);
        }
        self.wake_consumers();
    }

    pub(super) fn operated(&mut self, worker: &mut Worker, ticket: Ticket) {
        if let Some(Asked::Decision { partition, epoch, tag }) = worker.tickets.remove(&ticket) {
            self.broker.due[queue(partition)].ack((worker.slot, worker.run, epoch), tag);
            Self::count_unanswered(worker, partition, -1);
            self.wake_consumers();
        }
    }

    /// The consumer ends: what it has not acknowledged comes again.
    pub(super) fn refused(&mut self, worker: &mut Worker, ticket: Ticket) {
        if let Some(asked) = worker.tickets.remove(&ticket) {
            let (partition, epoch) = asked.consumer();
            let is_its = worker.consumers.get(&partition).is_some_and(|consumer| consumer.held.epoch() == epoch);
            if is_its {
                self.close_consumers(worker, |closed| closed == partition);
            }
        }
    }
}
