//! What is done to the cluster.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use url::Url;

use super::broker::{Due, Message};
use super::consuming::queue;
use super::rules::Rule;
use super::scenario::{Act, ENTITIES, TROUBLE, below};
use super::store::Store;
use super::world::{Happening, World};
use crate::domain::event::{Event, EventId, Partition, Sequence, Target};
use crate::domain::lifecycle::State;
use crate::domain::operator::{Decided, Verb};

impl World {
    pub(super) fn act(&mut self, act: &Act) {
        match *act {
            Act::Publish { entity, host, late } => self.produce(entity, host, late),
            Act::Burst { host } => (0..ENTITIES).for_each(|entity| self.produce(entity, host, false)),
            Act::SlowBroker { lasts } => self.broker.slow_until = self.now + lasts,
            Act::PublishAgain { which, other } => self.publish_again(which, other),
            Act::Crash { worker, back } => {
                let slot = self.slot(worker);
                self.kill(slot, back);
            }
            Act::Pause { worker, lasts } => self.pause(worker, lasts),
            Act::Restart { worker, back } => self.restart(worker, back),
            Act::Update { worker, older, back } => {
                let slot = self.slot(worker);
                self.slots[slot].is_older = older;
                self.restart(worker, back);
            }
            Act::Join => {
                if let Some(free) = (0..self.slots.len()).find(|slot| self.slots[*slot].worker.is_none()) {
                    self.start(free);
                }
            }
            Act::CutStore { worker, lasts } => {
                let slot = self.slot(worker);
                self.slots[slot].cut_until = self.now + lasts;
            }
            Act::LoseCommits { worker, commits, answers } => {
                let slot = self.slot(worker);
                (self.slots[slot].loses_commits, self.slots[slot].loses_answers) = (commits, answers);
            }
            Act::CutBroker { worker } => {
                let slot = self.slot(worker);
                self.drop_connection(slot);
            }
            Act::RestartBroker { renumbers, disorders } => self.restart_broker(renumbers, disorders),
            Act::StoreDown { lasts } => self.store_down_until = self.now + lasts,
            Act::SetClock { millis } => {
                self.clock_set += millis;
                self.promises.forget_due();
            }
            Act::Failover { behind } => self.fail_over(behind),
            Act::LoseTokens { lasts } => self.broker.loses_tokens_until = self.now + lasts,
            Act::DoubleTokens { lasts } => self.broker.doubles_tokens_until = self.now + lasts,
            Act::Receiver { host, mood, lasts } => {
                let number = host % self.moods.len();
                self.moods[number] = (mood, self.now + lasts);
            }
            Act::Operate { which, skip, twice } => {
                let failed = self.failed();
                if let Some(id) = chosen(&failed, which) {
                    let verb = if skip { Verb::Skip } else { Verb::Redrive };
                    (0..=u8::from(twice)).for_each(|_| self.decide(id, verb));
                }
            }
            Act::SendBack { which } => self.send_back(which),
            Act::PauseHost { host, lasts } => {
                let host = format!("host-{}:80", host % self.scenario.hosts);
                let until = self.store_now() + lasts;
                self.store.gates.paused_hosts.insert(host.into(), until);
            }
            Act::PauseEntity { entity, lasts } => {
                let until = self.store_now() + lasts;
                self.store.gates.paused_entities.insert(format!("entity-{entity}").into(), until);
            }
            Act::Expire { after } => self.expires_after = Some(after),
        }
    }

    fn slot(&self, worker: usize) -> usize {
        worker % self.slots.len()
    }

    /// Entities with an odd number use numbers.
    fn produce(&mut self, entity: usize, host: usize, late: bool) {
        let sequence = (entity % 2 == 1).then(|| self.promises.next_sequence(entity));
        if late && sequence.is_some() && self.now < TROUBLE {
            let at = TROUBLE + self.some(0, 3_000_000);
            self.agenda.enter(at, Happening::Publish { entity, host, sequence });
        } else {
            self.publish(entity, host, sequence);
        }
    }

    pub(super) fn publish(&mut self, entity: usize, host: usize, sequence: Option<i64>) {
        let number = self.promises.published_count();
        let host = format!("host-{}:80", host % self.scenario.hosts);
        let event = Event {
            key: format!("key-{number}").into(),
            entity: format!("entity-{entity}").into(),
            partition: Partition(0),
            sequence: sequence.map(Sequence),
            destination: Target::Url(destination(&host)),
            host: host.into(),
            content_type: None,
            content_encoding: None,
            headers: HeaderMap::new(),
            traceparent: None,
            tracestate: None,
            trace: None,
            is_sent_back: false,
            ingested_ms: 0,
            properties: Bytes::new(),
            body: Bytes::from(vec![b'x'; below(&mut self.chance, 600)]),
        };
        let message = Message { number, digest: event.digest(), event: Arc::new(event) };
        self.promises.published(&message);
        self.enqueue(message);
    }

    fn enqueue(&mut self, message: Message) {
        let entity = message.event.entity.as_str().trim_start_matches("entity-").parse().unwrap_or(0);
        let number = self.broker.partition_of(entity);
        self.broker.queues[number].ready.push_back(message);
        self.wake_consumers();
    }

    fn publish_again(&mut self, which: u64, other: bool) {
        let Some(mut message) = self.promises.published_before(which) else { return };
        if other {
            let mut event = (*message.event).clone();
            event.body = Bytes::from_static(b"another body");
            message.digest = event.digest();
            message.event = Arc::new(event);
        }
        self.enqueue(message);
    }

    /// Somebody shovels a dead letter back.
    fn send_back(&mut self, which: u64) {
        if self.broker.letters.is_empty() {
            return;
        }
        let at = usize::try_from(which).unwrap_or(0) % self.broker.letters.len();
        let mut event = (*self.broker.letters[at].event).clone();
        event.is_sent_back = true;
        let message = Message { number: u64::MAX, digest: event.digest(), event: Arc::new(event) };
        self.enqueue(message);
    }

    fn pause(&mut self, worker: usize, lasts: Duration) {
        let slot = self.slot(worker);
        let until = self.now + lasts;
        let paused = &mut self.slots[slot].paused_until;
        *paused = until.max(*paused);
        // The broker hears nothing from it for too long.
        if lasts > Duration::from_secs(4) {
            self.drop_connection(slot);
        }
        if !self.keeps(Rule::ClockGoesOnSuspended)
            && let Some(worker) = &mut self.slots[slot].worker
        {
            worker.clock.stood_still += lasts;
        }
    }

    /// SIGTERM.
    fn restart(&mut self, worker: usize, back: Duration) {
        let slot = self.slot(worker);
        if let Some(mut worker) = self.slots[slot].worker.take() {
            if !worker.draining {
                self.drain(&mut worker);
            }
            self.slots[slot].worker = Some(worker);
        }
        // One that does not come to its end is killed.
        let at = self.now + Duration::from_secs(20) + back;
        self.agenda.enter(at, Happening::Act(Act::Crash { worker: slot, back: Duration::from_millis(100) }));
        self.agenda.enter(self.now + back, Happening::Start(slot));
    }

    fn restart_broker(&mut self, renumbers: bool, disorders: bool) {
        for number in 0..self.broker.queues.len() {
            self.broker.queues[number].restart();
            self.broker.due[number].restart();
            if disorders {
                self.broker.queues[number].ready.make_contiguous().reverse();
            }
        }
        for slot in 0..self.slots.len() {
            self.drop_connection(slot);
        }
        if renumbers {
            self.broker.buckets.rotate_left(1);
        }
    }

    /// A standby takes over that has not seen the last commits. What it forgets is forgotten: of the entities that it is about,
    /// nothing is promised any more but that what is left goes on.
    fn fail_over(&mut self, behind: Duration) {
        let then = self.now.saturating_sub(behind);
        let Some((_, earlier)) = self.earlier.iter().rev().find(|(at, _)| *at <= then).cloned() else { return };
        self.promises.forget(&self.store, &earlier);
        // The server writes ahead how far its numbers may have come.
        let next_id = self.store.next_id + 32;
        self.generation += 1;
        let is_noticed = self.keeps(Rule::WatchAnewAfterFailover);
        let server = if is_noticed { i64::try_from(self.generation).unwrap_or(i64::MAX) } else { 0 };
        self.store = Store { next_id, server, ..earlier };
        self.earlier.clear();
        self.store_down_until = self.now + self.some(10_000, 3_000_000);
    }

    fn failed(&self) -> Vec<EventId> {
        self.store.letters.keys().copied().collect()
    }

    fn decide(&mut self, id: EventId, verb: Verb) {
        let Some(letter) = self.store.letters.get(&id) else { return };
        // An older program does not name the failure that a decision is about.
        let names_failure = !self.scenario.is_updated() || below(&mut self.chance, 2) == 0;
        let decided = Decided { id, verb, failed_us: names_failure.then_some(letter.failed_us) };
        let number = queue(letter.partition);
        let at = self.now + self.some(1_000, 2_000_000);
        self.agenda.enter(at, Happening::Due(number, Due::Operate(decided)));
    }

    /// Operators look after what is on hold, for as long as there is anything.
    pub(super) fn tend(&mut self) {
        let held = self.store.open.iter().filter(|(_, open)| open.state == State::Failed);
        let held: Vec<EventId> = held.map(|(id, _)| *id).collect();
        for id in held {
            let verb = if self.chance.below(2) == 0 { Verb::Skip } else { Verb::Redrive };
            self.decide(id, verb);
        }
        self.agenda.enter(self.now + Duration::from_secs(10), Happening::Tend);
    }
}

/// A host's URL.
fn destination(host: &str) -> Url {
    Url::parse(&format!("http://{host}/")).expect("a host of a scenario makes a URL")
}

fn chosen(ids: &[EventId], which: u64) -> Option<EventId> {
    let at = usize::try_from(which).unwrap_or(0) % ids.len().max(1);
    ids.get(at).copied()
}
