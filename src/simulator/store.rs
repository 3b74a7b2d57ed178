//! A model of the store: the meaning of each statement, in memory. It is held against PostgreSQL by a test that gives the same
//! commands to both.

mod gates;
mod members;
mod sweeps;
mod transaction;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::rules::Rule;
use crate::domain::admission::FirstSequence;
use crate::domain::candidate::Candidate;
use crate::domain::event::{Digest, Entity, Event, EventId, Host, IdempotencyKey, Partition};
use crate::domain::lifecycle::State;
use crate::store::position::REDRIVEN;

/// An event that was recorded.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Of its content.
    pub digest: Digest,
    /// It came by this partition's queue, or its line was there.
    pub partition: Partition,
    /// The event.
    pub event: Arc<Event>,
}

/// An event that is not final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Where its line is.
    pub partition: Partition,
    /// Whose line.
    pub entity: Entity,
    /// Its place in the line, in front of its number.
    pub position: i64,
    /// Its host.
    pub host: Host,
    /// Where it stands.
    pub state: State,
    /// Attempts begun so far.
    pub attempts: u16,
    /// Of these, the ones whose outcome is unknown.
    pub unknown: u16,
    /// When its state last changed.
    pub changed: Duration,
    /// When the next attempt is due.
    pub due: Option<Duration>,
    /// It waits for its host.
    pub parked: bool,
}

/// An event that is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Final {
    /// DELIVERED or FAILED.
    pub state: State,
    /// Attempts begun.
    pub attempts: u16,
    /// When it became so.
    pub finished: Duration,
}

/// An entry of the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Who publishes it.
    pub partition: Partition,
    /// Why there is no further attempt.
    pub reason: &'static str,
    /// When the event became FAILED, in microseconds.
    pub failed_us: i64,
    /// The broker has confirmed it.
    pub published: bool,
}

/// Who may work on a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owned {
    /// Its owner.
    pub owner: Option<Uuid>,
    /// Grows with every change of owner.
    pub epoch: i64,
    /// Its last owner gave it back with nothing of it left at the broker.
    pub graceful: bool,
}

/// A worker, as its row has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRow {
    /// The order in which members joined.
    pub joined: u64,
    /// Changes with each renewal.
    pub renewal: i64,
    /// Of its lease.
    pub lease: Duration,
    /// Its own cap on a host.
    pub host_cap: u16,
    /// Its part of the cap.
    pub host_share: u16,
    /// It is stopping.
    pub leaving: bool,
    /// The renewal with which it was found to be gone.
    pub gone: Option<i64>,
}

/// Everything that is stored.
#[derive(Clone, Debug)]
pub struct Store {
    /// Which number a line begins with.
    pub first: FirstSequence,
    /// The rule that is left out, if any.
    pub without: Option<Rule>,
    /// Events, until their retention ends.
    pub events: BTreeMap<EventId, Kept>,
    /// By their keys.
    pub keys: BTreeMap<IdempotencyKey, EventId>,
    /// Those that are not final.
    pub open: BTreeMap<EventId, Open>,
    /// Of each entity, those that are not final, in the order of its line.
    pub lines: BTreeMap<Entity, BTreeSet<(i64, EventId)>>,
    /// Those that are final.
    pub finals: BTreeMap<EventId, Final>,
    /// Attempts that failed.
    pub failed: BTreeSet<(EventId, u16)>,
    /// The outbox.
    pub letters: BTreeMap<EventId, Letter>,
    /// The number that an entity waits for.
    pub sequences: BTreeMap<Entity, i64>,
    /// Notes for the owner of a line.
    pub strays: BTreeMap<EventId, (Partition, Entity)>,
    /// Of each partition, by its number.
    pub partitions: Vec<Owned>,
    /// The workers.
    pub members: BTreeMap<Uuid, MemberRow>,
    /// Of each writer, its last commit.
    pub commits: BTreeMap<Uuid, i64>,
    /// The next event's number.
    pub next_id: i64,
    /// Which server it is: another one after a failover.
    pub server: i64,
    /// Gates and pauses.
    pub gates: gates::Gates,
    pub(super) joined: u64,
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(partitions: usize, first: FirstSequence) -> Self {
        Self {
            first,
            without: None,
            events: BTreeMap::new(),
            keys: BTreeMap::new(),
            open: BTreeMap::new(),
            lines: BTreeMap::new(),
            finals: BTreeMap::new(),
            failed: BTreeSet::new(),
            letters: BTreeMap::new(),
            sequences: BTreeMap::new(),
            strays: BTreeMap::new(),
            partitions: vec![Owned::default(); partitions],
            members: BTreeMap::new(),
            commits: BTreeMap::new(),
            next_id: 1,
            server: 0,
            gates: gates::Gates::default(),
            joined: 0,
        }
    }

    /// Whether a rule holds.
    #[must_use]
    pub fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// Who may work on a partition. One that does not exist is nobody's.
    #[must_use]
    pub fn owned(&self, partition: Partition) -> Owned {
        usize::try_from(partition.0).ok().and_then(|at| self.partitions.get(at)).cloned().unwrap_or_default()
    }

    fn owned_mut(&mut self, partition: Partition) -> Option<&mut Owned> {
        usize::try_from(partition.0).ok().and_then(|at| self.partitions.get_mut(at))
    }

    /// Whether an open event is the head of its line and waits for no number.
    #[must_use]
    pub fn is_head(&self, id: EventId) -> bool {
        let Some(open) = self.open.get(&id) else { return false };
        let first = self.lines.get(&open.entity).and_then(BTreeSet::first);
        let is_first = first == Some(&(open.position, id));
        is_first && (open.position < 0 || self.sequences.get(&open.entity) == Some(&open.position))
    }

    /// Whether an event is the head of its line, PENDING, and not parked: somebody should have it in hand.
    fn is_ready(&self, id: EventId) -> bool {
        self.is_head(id) && self.open.get(&id).is_some_and(|open| open.state == State::Pending && !open.parked)
    }

    fn candidate(&self, id: EventId) -> Option<Candidate> {
        let (open, kept) = (self.open.get(&id)?, self.events.get(&id)?);
        let mut event = kept.event.clone();
        if event.partition != open.partition {
            Arc::make_mut(&mut event).partition = open.partition;
        }
        Some(Candidate { id, attempts: open.attempts, unknown: open.unknown, event })
    }

    fn insert_open(&mut self, id: EventId, open: Open) {
        self.lines.entry(open.entity.clone()).or_default().insert((open.position, id));
        self.open.insert(id, open);
    }

    fn remove_open(&mut self, id: EventId) -> Option<Open> {
        let open = self.open.remove(&id)?;
        if let Some(line) = self.lines.get_mut(&open.entity) {
            line.remove(&(open.position, id));
            if line.is_empty() {
                self.lines.remove(&open.entity);
            }
        }
        Some(open)
    }

    /// The line goes on behind an event that is over.
    fn advance(&mut self, open: &Open) {
        if open.position >= 0
            && let Some(next) = self.sequences.get_mut(&open.entity)
            && *next == open.position
        {
            *next = open.position.saturating_add(1);
        }
    }

    /// FAILED → PENDING. A held event goes on where it stands; one that its entity has gone past comes before all that is open.
    pub(crate) fn redrive(&mut self, id: EventId, now: Duration) {
        let held = self.open.get_mut(&id).filter(|open| open.state == State::Failed);
        let redriven = if let Some(open) = held {
            (open.state, open.attempts, open.unknown, open.changed) = (State::Pending, 0, 0, now);
            let note = (open.partition, open.entity.clone());
            self.strays.entry(id).or_insert(note);
            true
        } else {
            self.open_again(id, now)
        };
        if redriven {
            self.failed.retain(|(failed, _)| *failed != id);
            self.letters.remove(&id);
        }
    }

    fn open_again(&mut self, id: EventId, now: Duration) -> bool {
        let is_failed = self.finals.get(&id).is_some_and(|fin| fin.state == State::Failed);
        let Some(kept) = self.events.get(&id).filter(|_| is_failed).cloned() else { return false };
        self.finals.remove(&id);
        let event = kept.event;
        let home = self.home(&event.entity).unwrap_or(kept.partition);
        let position = if self.keeps(Rule::RedrivenGoFirst) {
            REDRIVEN
        } else {
            event.sequence.map_or(i64::MAX, |sequence| sequence.0)
        };
        let open = Open {
            partition: home,
            entity: event.entity.clone(),
            position,
            host: event.host.clone(),
            state: State::Pending,
            attempts: 0,
            unknown: 0,
            changed: now,
            due: None,
            parked: false,
        };
        self.insert_open(id, open);
        self.strays.entry(id).or_insert((home, event.entity.clone()));
        true
    }

    fn skip(&mut self, id: EventId, now: Duration) {
        if self.open.get(&id).is_none_or(|open| open.state != State::Failed) {
            return;
        }
        if let Some(open) = self.remove_open(id) {
            self.advance(&open);
            self.finals.insert(id, Final { state: State::Failed, attempts: open.attempts, finished: now });
        }
    }

    /// The partition of an entity's open events.
    fn home(&self, entity: &Entity) -> Option<Partition> {
        let (_, first) = self.lines.get(entity)?.first()?;
        self.open.get(first).map(|open| open.partition)
    }

    fn park_heads(&mut self, partition: Partition, only: impl Fn(&Open) -> bool) -> Vec<Host> {
        let heads_only = self.keeps(Rule::ParkHeadsOnly);
        let ours = self.open.iter().filter(|(_, open)| open.partition == partition && only(open));
        let ready: Vec<EventId> = ours
            .filter(|(id, open)| self.is_ready(**id) || (!heads_only && open.state == State::Pending && !open.parked))
            .map(|(id, _)| *id)
            .collect();
        let mut hosts = Vec::new();
        for id in ready {
            if let Some(open) = self.open.get_mut(&id) {
                open.parked = true;
                hosts.push(open.host.clone());
            }
        }
        hosts
    }
}
