//! What the parts of a run see, in one place.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::hostile::kinds;
use crate::clock;
use crate::proof::history::{DeadLetter, History, Hostile, Published, Request, Trouble};
use crate::proof::load::{Answer, Load, digest};

/// What was seen so far. Bounded by the load: each event has so many attempts at most, and a run has an end.
pub(super) struct Watch {
    load: Arc<Load>,
    digests: Vec<[u8; 32]>,
    began: Duration,
    seen: Mutex<Seen>,
    changed: Notify,
}

#[derive(Default)]
struct Seen {
    history: History,
    delivered: HashSet<usize>,
    dead: HashSet<usize>,
    poison: HashSet<u32>,
    confirmed: usize,
    /// When the trouble began that is under way.
    trouble_since: Option<Duration>,
}

impl Watch {
    pub(super) fn new(load: Arc<Load>) -> Arc<Self> {
        let digests = (0..load.events.len()).map(|index| digest(&load.body(index))).collect();
        let published = vec![Published::default(); load.events.len()];
        let hostile = (0..load.plan.hostile).map(|number| {
            let kind = kinds::kind(number);
            Hostile { kind: kind.name, honest: kind.honest, ..Hostile::default() }
        });
        let history = History { published, hostile: hostile.collect(), ..History::default() };
        let seen = Mutex::new(Seen { history, ..Seen::default() });
        Arc::new(Self { load, digests, began: clock::now(), seen, changed: Notify::new() })
    }

    pub(super) fn load(&self) -> &Load {
        &self.load
    }

    /// The time since the run began.
    pub(super) fn now(&self) -> Duration {
        clock::now().saturating_sub(self.began)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was seen, in whole or before it was cut short. A trouble that was cut short explains what a whole one would.
    pub(super) fn history(&self, cut_short: bool) -> History {
        let (now, seen) = (self.now(), self.seen());
        let mut history = History { cut_short, ..seen.history.clone() };
        history.troubles.extend(seen.trouble_since.map(|from| Trouble {
            what: "a trouble that was cut short".into(),
            from,
            to: now,
            doubt_until: Some(now),
            down: None,
        }));
        history
    }

    /// The event that a key names, if it is one of this run's.
    pub(super) fn index_of(&self, key: &str) -> Option<usize> {
        let index = key.strip_prefix(&self.load.run)?.strip_prefix('-')?.parse().ok()?;
        (index < self.load.events.len()).then_some(index)
    }

    /// The hostile message that a key or a routing key names after its beginning, if it is one of this run's.
    fn hostile_of(&self, name: &str, beginning: &str) -> Option<u32> {
        let number = name.strip_prefix(beginning)?.split('.').next()?.parse().ok()?;
        (number < self.load.plan.hostile).then_some(number)
    }

    /// The hostile message of this key.
    pub(super) fn hostile_of_key(&self, key: &str) -> Option<u32> {
        self.hostile_of(key, &kinds::key(&self.load.run, ""))
    }

    /// The hostile message of this entity.
    pub(super) fn hostile_of_entity(&self, routing_key: &str) -> Option<u32> {
        self.hostile_of(routing_key, &kinds::entity(&self.load.run, ""))
    }

    pub(super) fn is_intact(&self, index: usize, body: &[u8]) -> bool {
        self.digests[index] == digest(body)
    }

    /// An event is handed to the broker, over this connection of the producer.
    pub(super) fn publishing(&self, index: usize, connection: u32) {
        let now = self.now();
        let mut seen = self.seen();
        let published = &mut seen.history.published[index];
        published.again |= published.first.is_some();
        published.first.get_or_insert(now);
        published.connection = connection;
    }

    pub(super) fn confirmed(&self, index: usize) {
        let mut seen = self.seen();
        let published = &mut seen.history.published[index];
        if !std::mem::replace(&mut published.confirmed, true) {
            seen.confirmed += 1;
        }
        drop(seen);
        self.changed.notify_one();
    }

    /// A request has begun; gives its number.
    pub(super) fn begun(&self, event: usize, attempt: u32, intact: bool, trace_id: String, started: Duration) -> usize {
        let mut seen = self.seen();
        seen.history.requests.push(Request { event, attempt, started, ended: None, answer: None, intact, trace_id });
        seen.history.requests.len() - 1
    }

    /// A request has ended: answered, or left by its sender.
    pub(super) fn ended(&self, number: usize, answer: Option<Answer>) {
        let now = self.now();
        let mut seen = self.seen();
        let request = &mut seen.history.requests[number];
        request.ended = Some(now);
        request.answer = answer;
        if answer.is_some_and(Answer::succeeds) {
            let event = request.event;
            seen.delivered.insert(event);
        }
        drop(seen);
        self.changed.notify_one();
    }

    pub(super) fn dead_letter(&self, letter: DeadLetter) {
        let mut seen = self.seen();
        seen.dead.extend(letter.event);
        seen.poison.extend(letter.poison);
        seen.history.dead_letters.push(letter);
        drop(seen);
        self.changed.notify_one();
    }

    /// Notes what has become of a hostile message.
    pub(super) fn hostile(&self, number: u32, note: impl FnOnce(&mut Hostile)) {
        if let Some(hostile) = self.seen().history.hostile.get_mut(number as usize) {
            note(hostile);
        }
        self.changed.notify_one();
    }

    /// A trouble begins; gives the moment.
    pub(super) fn trouble_begins(&self) -> Duration {
        *self.seen().trouble_since.insert(self.now())
    }

    /// It is over.
    pub(super) fn trouble(&self, trouble: Trouble) {
        let mut seen = self.seen();
        seen.trouble_since = None;
        seen.history.troubles.push(trouble);
    }

    pub(super) fn delivered(&self) -> u64 {
        self.seen().delivered.len() as u64
    }

    /// Confirmed, delivered, dead-lettered, hostile messages at their end, and troubles so far.
    pub(super) fn counts(&self) -> [usize; 5] {
        let seen = self.seen();
        let hostile = seen.history.hostile.iter().filter(|hostile| hostile.has_ended()).count();
        let dead = seen.dead.len() + seen.poison.len();
        [seen.confirmed, seen.delivered.len(), dead, hostile, seen.history.troubles.len()]
    }

    /// Waits until everything is delivered or dead-lettered, or nothing more of it for as long as the patience lasts.
    pub(super) async fn done_or_stuck(&self, patience: Duration) {
        let mut counts = self.counts();
        while tokio::time::timeout(patience, self.done()).await.is_err() {
            let before = std::mem::replace(&mut counts, self.counts());
            if counts == before {
                return;
            }
        }
    }

    async fn done(&self) {
        while !self.is_done() {
            self.changed.notified().await;
        }
    }

    /// Waits until so many events are delivered.
    pub(super) async fn delivered_at_least(&self, count: usize) {
        while self.seen().delivered.len() < count {
            // Others wait for the same signal.
            let _ = tokio::time::timeout(Duration::from_millis(50), self.changed.notified()).await;
        }
    }

    fn is_done(&self) -> bool {
        let seen = self.seen();
        // An event may be both, which a check finds.
        let most = seen.delivered.len() + seen.dead.len();
        most >= self.load.events.len()
            && seen.poison.len() >= self.load.plan.poison as usize
            && seen.history.hostile.iter().all(Hostile::has_ended)
            && (0..self.load.events.len()).all(|index| seen.delivered.contains(&index) || seen.dead.contains(&index))
    }
}
