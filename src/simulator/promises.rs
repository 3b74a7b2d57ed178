//! The promises, held against everything that happens.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::broker::{Broker, Message};
use super::messages::Process;
use super::scenario::Scenario;
use super::store::Store;
use crate::domain::event::{Entity, Event, EventId, Host, IdempotencyKey, Partition};
use crate::domain::lifecycle::State;
use crate::domain::operator::Decided;
use crate::domain::verdict::Decision;
use crate::engine::input::Adrift;
use crate::store::position::{REDRIVEN, UNNUMBERED};
use crate::writer::batch::Batch;
use crate::writer::found::Found;

/// How early a retry may begin.
const PATIENCE: Duration = Duration::from_millis(25);

/// A request that a receiver has open.
struct Request {
    id: EventId,
    entity: Entity,
    host: Host,
    by: Process,
    until: Duration,
}

/// What was seen, and what follows from it.
pub(super) struct Promises {
    /// The first promise that was broken.
    pub(super) broken: Option<String>,
    /// Knows the limits of hosts.
    limits: Scenario,
    keeps_arrival_order: bool,
    published: Vec<Message>,
    sequences: BTreeMap<usize, i64>,
    requests: Vec<Request>,
    /// Of each event, how often it was opened again, and the attempts that were sent since.
    sent: BTreeMap<(EventId, u64, u16), Duration>,
    again: BTreeMap<EventId, u64>,
    /// Events that a receiver has answered with success.
    successes: BTreeMap<EventId, Duration>,
    /// Keys whose delivery is recorded.
    delivered: BTreeSet<IdempotencyKey>,
    /// When the next attempt of an event may begin, by the store's clock.
    due: BTreeMap<EventId, Duration>,
    /// Letters that decisions of the next commit do not name: they are about an earlier failure.
    not_meant: Vec<EventId>,
    /// FAILED events that are about to be deleted, and have no letter.
    unsaid: BTreeSet<IdempotencyKey>,
    /// Of each entity without numbers, the last message that was recorded.
    last_recorded: BTreeMap<Entity, u64>,
    recorded: BTreeSet<u64>,
    /// Events that were deleted at the end of their retention.
    expired: BTreeSet<IdempotencyKey>,
    /// Of these, commits were forgotten.
    excused: BTreeSet<Entity>,
    forgets: bool,
}

impl Promises {
    pub(super) fn new(scenario: &Scenario) -> Self {
        Self {
            broken: None,
            limits: scenario.clone(),
            keeps_arrival_order: scenario.keeps_arrival_order(),
            published: Vec::new(),
            sequences: BTreeMap::new(),
            requests: Vec::new(),
            sent: BTreeMap::new(),
            again: BTreeMap::new(),
            successes: BTreeMap::new(),
            delivered: BTreeSet::new(),
            due: BTreeMap::new(),
            not_meant: Vec::new(),
            unsaid: BTreeSet::new(),
            last_recorded: BTreeMap::new(),
            recorded: BTreeSet::new(),
            expired: BTreeSet::new(),
            excused: BTreeSet::new(),
            forgets: scenario.may_forget(),
        }
    }

    pub(super) fn breaks(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// The next number of an entity.
    pub(super) fn next_sequence(&mut self, entity: usize) -> i64 {
        let next = self.sequences.entry(entity).or_insert(0);
        *next += 1;
        *next
    }

    pub(super) fn published_count(&self) -> u64 {
        self.published.len() as u64
    }

    pub(super) fn published(&mut self, message: &Message) {
        self.published.push(message.clone());
    }

    pub(super) fn published_before(&self, which: u64) -> Option<Message> {
        let at = usize::try_from(which).unwrap_or(0) % self.published.len().max(1);
        self.published.get(at).cloned()
    }

    /// **In order, as they arrived**, where nothing at the broker has changed that.
    pub(super) fn recorded(&mut self, message: &Message) {
        if !self.keeps_arrival_order || message.event.sequence.is_some() || !self.recorded.insert(message.number) {
            return;
        }
        let entity = message.event.entity.clone();
        let last = self.last_recorded.insert(entity.clone(), message.number);
        if last.is_some_and(|last| last > message.number) {
            self.breaks(format!("order: message {} of {entity} was recorded after {last:?}", message.number));
        }
    }

    /// A request reaches its receiver: **once, in order, gently**, and only after it was recorded.
    pub(super) fn sent(
        &mut self,
        store: &Store,
        (now, until): (Duration, Duration),
        by: Process,
        (id, attempt): (EventId, u16),
        event: &Event,
    ) {
        self.requests.retain(|request| request.until > now);
        let entity = event.entity.clone();
        let is_excused = self.excused.contains(&entity);
        if !is_excused {
            self.check_order(store, (id, attempt), &entity, by);
            if self.delivered.contains(&event.key) {
                self.breaks(format!("once: {} is sent as event {id} after its delivery was recorded", event.key));
            }
            let again = self.again.get(&id).copied().unwrap_or(0);
            if let Some(before) = self.sent.insert((id, again, attempt), now) {
                self.breaks(format!("once: attempt {attempt} of event {id} was sent at {before:?} and at {now:?}"));
            }
        }
        let at_host = self.requests.iter().filter(|request| request.host == event.host).count();
        if at_host >= self.limits.limit(&event.host) {
            self.breaks(format!("gentle: {} requests to {} at {now:?}", at_host + 1, event.host));
        }
        self.requests.push(Request { id, entity, host: event.host.clone(), by, until });
    }

    fn check_order(&mut self, store: &Store, (id, attempt): (EventId, u16), entity: &Entity, by: Process) {
        let other = self.requests.iter().find(|request| request.entity == *entity);
        if let Some(Request { id: other, by: of, .. }) = other {
            let what = format!("order: event {id} of {entity} is sent by {by:?} while {other} is, by {of:?}");
            return self.breaks(what);
        }
        let Some(open) = store.open.get(&id) else {
            let last = store.finals.get(&id);
            return self.breaks(format!("once: event {id} of {entity} is sent, which is {last:?}"));
        };
        if open.state != State::InFlight || open.attempts != attempt {
            self.breaks(format!("recorded: attempt {attempt} of event {id} is sent, which is {open:?}"));
        }
        // One that was redriven meanwhile comes before all others, but not before one whose attempt had begun.
        let line = store.lines.get(entity).into_iter().flatten();
        let before = line.take_while(|place| **place != (open.position, id)).find(|(position, _)| *position > REDRIVEN);
        if let Some((_, before)) = before {
            let before = (before, store.open.get(before));
            self.breaks(format!("order: event {id} of {entity} is sent before {before:?} is final"));
        }
        if open.position > UNNUMBERED && store.sequences.get(entity) != Some(&open.position) {
            self.breaks(format!("order: number {} of {entity} is sent before its turn", open.position));
        }
    }

    pub(super) fn will_answer(&mut self, id: EventId, status: u16, at: Duration) {
        if (200..300).contains(&status) {
            self.successes.entry(id).or_insert(at);
        }
    }

    /// What is open at a receiver when a worker dies is closed.
    pub(super) fn worker_died(&mut self, slot: usize, run: u64, _now: Duration) {
        self.requests.retain(|request| request.by != (slot, run));
    }

    /// A transaction is about to be committed: which of its decisions are about an earlier failure?
    pub(super) fn committing(&mut self, store: &Store, batch: &Batch) {
        let is_meant = |decided: &Decided| {
            let failed = store.letters.get(&decided.id).map(|letter| letter.failed_us);
            failed.is_none() || decided.failed_us.is_none() || failed == decided.failed_us
        };
        let operations = batch.operations.iter().filter(|(_, decided, _)| !is_meant(decided));
        self.not_meant = operations.map(|(_, decided, _)| decided.id).collect();
    }

    /// A transaction was committed: what it says is true.
    pub(super) fn committed(&mut self, (store, now): (&Store, Duration), batch: &Batch, found: &Found) {
        for settlement in batch.settlements() {
            let id = settlement.candidate.id;
            if !found.settled.contains(&id) {
                continue;
            }
            match settlement.decision {
                Decision::Retry(delay) => drop(self.due.insert(id, now + delay)),
                Decision::Deliver => drop(self.delivered.insert(settlement.candidate.event.key.clone())),
                Decision::Withdraw(_) | Decision::Fail(_) | Decision::Hold(_) => {}
            }
            if settlement.decision == Decision::Deliver && !self.successes.contains_key(&id) {
                self.breaks(format!("honest: event {id} is DELIVERED, and no receiver has said so"));
            }
        }
        for id in &found.started {
            if let Some(due) = self.due.remove(id).filter(|due| *due > now + PATIENCE) {
                self.breaks(format!("patient: event {id} is tried again at {now:?}, before {due:?}"));
            }
        }
        for (_, decided, _) in &batch.operations {
            if store.letters.contains_key(&decided.id) {
                // Nothing came of it.
                continue;
            }
            *self.again.entry(decided.id).or_insert(0) += 1;
            self.due.remove(&decided.id);
            if self.not_meant.contains(&decided.id) {
                self.breaks(format!("meant: {decided:?} was about an earlier failure, and was carried out"));
            }
        }
        for (number, arrival) in batch.numbered() {
            let redriven = found.admitted.get(&number).is_some_and(|admitted| admitted.id.is_none());
            if let Some(id) = store.keys.get(&arrival.event.key).filter(|_| redriven) {
                *self.again.entry(*id).or_insert(0) += 1;
                self.due.remove(id);
            }
        }
    }

    /// A letter is about an event that is FAILED.
    pub(super) fn letter_read(&mut self, store: &Store, id: EventId) {
        let is_failed = store.finals.get(&id).is_some_and(|last| last.state == State::Failed);
        let is_on_hold = store.open.get(&id).is_some_and(|open| open.state == State::Failed);
        if !is_failed && !is_on_hold {
            let (last, open) = (store.finals.get(&id), store.open.get(&id));
            self.breaks(format!("honest: a dead letter is about event {id}, which is {last:?} {open:?}"));
        }
    }

    /// Nobody had an event in hand: that only a store that forgets can bring about.
    pub(super) fn rescued(&mut self, id: EventId, adrift: Adrift) {
        if !self.forgets {
            self.breaks(format!("in hand: nobody had event {id} in hand: {adrift:?}"));
        }
    }

    /// A new owner waits for the end of a consumer whose worker may not consume any more.
    pub(super) fn starved(&mut self, partition: Partition, owner: Process) {
        self.breaks(format!("nothing stands still: worker {owner:?} waits to consume from partition {partition}"));
    }

    pub(super) fn expired(&mut self, store: &Store, gone: impl Iterator<Item = IdempotencyKey>) {
        for key in gone {
            if self.unsaid.contains(&key) && !store.keys.contains_key(&key) {
                self.breaks(format!("nothing lost: {key} is FAILED, and was deleted before its letter was published"));
            }
            // From now on it is another event.
            self.delivered.remove(&key);
            self.expired.insert(key);
        }
    }

    /// Events are about to be deleted: which of them have no letter yet?
    pub(super) fn expiring(&mut self, store: &Store, broker: &Broker) {
        let failed = store.finals.iter().filter(|(_, last)| last.state == State::Failed);
        let has_letter = |id: &EventId| broker.letters.iter().any(|l| l.failure.is_some_and(|(of, _)| of == *id));
        let unsaid = failed.filter(|(id, _)| !has_letter(id)).filter_map(|(id, _)| store.events.get(id));
        self.unsaid = unsaid.map(|kept| kept.event.key.clone()).filter(|_| !self.forgets).collect();
    }

    /// What was due is due at another time now.
    pub(super) fn forget_due(&mut self) {
        self.due.clear();
    }

    /// The store forgets: of all entities that it has otherwise now, nothing is promised but that what is left goes on.
    pub(super) fn forget(&mut self, now: &Store, then: &Store) {
        self.forget_due();
        for (id, kept) in &now.events {
            let is_same = then.events.contains_key(id)
                && then.open.get(id) == now.open.get(id)
                && then.finals.get(id) == now.finals.get(id)
                && then.letters.get(id) == now.letters.get(id);
            if !is_same {
                self.excused.insert(kept.event.entity.clone());
            }
        }
        let numbers = now.sequences.iter().filter(|(entity, next)| then.sequences.get(*entity) != Some(next));
        self.excused.extend(numbers.map(|(entity, _)| entity.clone()));
        for (id, kept) in &then.events {
            if !now.events.contains_key(id) {
                self.excused.insert(kept.event.entity.clone());
            }
        }
    }

    /// Whether commits about an entity were forgotten.
    pub(super) fn is_excused(&self, entity: &Entity) -> bool {
        self.excused.contains(entity)
    }

    /// **Nothing is lost**: what the broker has confirmed is final, or was refused with a letter.
    pub(super) fn lost(&self, store: &Store, broker: &Broker) -> Option<String> {
        for message in &self.published {
            let (key, entity) = (&message.event.key, &message.event.entity);
            if self.excused.contains(entity) || self.expired.contains(key) {
                continue;
            }
            let letters = || broker.letters.iter().filter(|letter| letter.key == *key);
            let Some(id) = store.keys.get(key) else {
                if letters().next().is_none() {
                    return Some(format!("message {} of {entity} is lost", message.number));
                }
                continue;
            };
            let Some(last) = store.finals.get(id) else { continue };
            let failure = store.letters.get(id).map(|letter| (*id, letter.failed_us));
            let has_letter = letters().any(|letter| letter.failure.is_some() && letter.failure == failure);
            if last.state == State::Failed && !has_letter {
                return Some(format!("event {id} of {entity} is FAILED without a letter"));
            }
        }
        None
    }
}
