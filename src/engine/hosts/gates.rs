//! Gates as one worker has them: which hosts get nothing now, and what its own attempts say about them.
//!
//! What is recorded of a gate is the same for all workers ([`crate::domain::gate`]); the engine is told of it. It shuts a gate
//! at once when its own attempts say so, and has that recorded. A host that has been shut is opened by each worker in steps:
//! one request at a time, two when that one was answered, then four, up to the worker's part of the cap.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::domain::event::{Entity, EventId, Host};
use crate::domain::gate::{Change, Failed, GatePolicy, Row, Sign};

/// Hosts with failures in a row that are remembered; of others, failures don't count.
const MOST_ROWS: usize = 4_096;
/// A row of failures is over when none has come for this long.
const ROW_ENDS: Duration = Duration::from_mins(10);
/// Changes that are on their way to the store at a time; a gate beyond these shuts with a later failure.
pub const MOST_CHANGES: usize = 1_024;

/// What a worker is told of gates and pauses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Hosts whose gate is shut, or probed by another worker.
    pub shut: HashSet<Host>,
    /// Hosts that this worker may probe, each with the number of its claim.
    pub ours: HashMap<Host, i64>,
    /// Hosts whose gate has opened lately.
    pub opening: HashSet<Host>,
    /// What operators have paused.
    pub paused: Paused,
    /// Requests at a time that hosts bear, as workers have found out lately, each with the number of that record.
    pub bear: HashMap<Host, (usize, i64)>,
}

/// What operators have paused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paused {
    /// All of it.
    pub everything: bool,
    /// Hosts.
    pub hosts: HashSet<Host>,
    /// Entities.
    pub entities: HashSet<Entity>,
}

/// What is to be recorded of a host's gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GateChange {
    /// Whose gate.
    pub host: Host,
    /// What has happened.
    pub change: Change,
    /// By which settings.
    pub policy: GatePolicy,
}

/// A gate that is not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Left when the store says so, or with a good answer.
    Shut,
    /// By this claim, an event of ours probes, once it is known which. Left by the end of its attempt, or when the store has
    /// it otherwise.
    Probe(i64, Option<EventId>),
    /// So many requests at a time, of which so many were answered. Left when that is all that this worker may have.
    Opening(usize, usize),
}

/// The gates that are not open, and hosts whose attempts fail.
#[derive(Debug, Default)]
pub struct Gates {
    ways: HashMap<Host, Way>,
    rows: HashMap<Host, Row>,
    /// Hosts with changes on their way to the store, and how many: what is told of these is older than what is known.
    pending: HashMap<Host, usize>,
    paused: Arc<Paused>,
}

/// An attempt that has ended, as its host's gate sees it.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The event.
    pub id: EventId,
    /// It has failed before.
    pub failed_before: bool,
    /// What its end says.
    pub sign: Sign,
    /// How long it took.
    pub took: Duration,
}

/// What else is known of the host then.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The time.
    pub now: Duration,
    /// When it gave its last good answer, as far as that matters.
    pub last_well: Duration,
    /// The requests at a time that this worker may have to it.
    pub full: usize,
}

/// What the end of an attempt does to its host's gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Stays,
    /// The gate shuts.
    Shuts,
    /// The host has answered: its gate opens.
    Opens,
    /// The probe has failed.
    Failed,
    /// The probe says nothing.
    Released,
}

impl Gates {
    /// The most requests at a time that the gate lets through to a host: none if it is open.
    #[must_use]
    pub fn limit(&self, host: &Host) -> Option<usize> {
        if self.ways.is_empty() && self.is_nothing_paused() {
            return None;
        }
        if self.paused.everything || self.paused.hosts.contains(host) {
            return Some(0);
        }
        self.ways.get(host).map(|way| match way {
            Way::Shut => 0,
            Way::Probe(..) => 1,
            Way::Opening(limit, _) => *limit,
        })
    }

    /// Whether newcomers, and events that wait in memory, have to wait in the store: all but one that probes.
    #[must_use]
    pub fn is_shut(&self, host: &Host) -> bool {
        match self.limit(host) {
            None => false,
            Some(0) => true,
            Some(_) => matches!(self.ways.get(host), Some(Way::Probe(..))),
        }
    }

    fn is_nothing_paused(&self) -> bool {
        !self.paused.everything && self.paused.hosts.is_empty()
    }

    /// Whether an operator has paused an entity.
    #[must_use]
    pub fn is_paused(&self, entity: &Entity) -> bool {
        !self.paused.entities.is_empty() && self.paused.entities.contains(entity)
    }

    /// Whether an event is the one that probes its host.
    #[must_use]
    pub fn probes(&self, host: &Host, id: EventId) -> bool {
        matches!(self.ways.get(host), Some(Way::Probe(_, Some(probe))) if *probe == id)
    }

    /// The entities that are paused.
    #[must_use]
    pub fn paused_entities(&self) -> Vec<Entity> {
        let mut entities: Vec<Entity> = self.paused.entities.iter().cloned().collect();
        entities.sort_unstable();
        entities
    }

    /// Whether any gate is not open, or anything paused.
    #[must_use]
    pub fn are_any(&self) -> bool {
        !self.ways.is_empty() || *self.paused != Paused::default()
    }

    /// What the store says. `done` are the hosts of changes that it has recorded, or could not. Gives the hosts that have to
    /// be looked at: those that get requests again, and those that this worker may probe, by which claim.
    pub fn follow(&mut self, told: &Standing, done: &[Host]) -> (Vec<Host>, Vec<(Host, i64)>) {
        for host in done {
            if let Some(pending) = self.pending.get_mut(host) {
                *pending -= 1;
                if *pending == 0 {
                    self.pending.remove(host);
                }
            }
        }
        let before = self.closed();
        self.paused = Arc::new(told.paused.clone());
        for host in told.shut.iter().filter(|host| !self.pending.contains_key(*host)) {
            self.ways.insert(host.clone(), Way::Shut);
        }
        let mut probes = Vec::new();
        for (host, claim) in told.ours.iter().filter(|(host, _)| !self.pending.contains_key(*host)) {
            if !matches!(self.ways.get(host), Some(Way::Probe(known, _)) if known == claim) {
                self.ways.insert(host.clone(), Way::Probe(*claim, None));
                probes.push((host.clone(), *claim));
            }
        }
        self.ways.retain(|host, way| {
            if told.shut.contains(host) || told.ours.contains_key(host) || self.pending.contains_key(host) {
                return true;
            }
            if !matches!(way, Way::Opening(..)) {
                *way = Way::Opening(1, 0);
            }
            told.opening.contains(host)
        });
        let mut opened: Vec<Host> = before.into_iter().filter(|host| !self.is_shut(host)).collect();
        opened.sort_unstable();
        probes.sort_unstable();
        (opened, probes)
    }

    /// Hosts that get no requests.
    fn closed(&self) -> Vec<Host> {
        let hosts = self.ways.keys().chain(&self.paused.hosts);
        hosts.filter(|host| self.is_shut(host)).cloned().collect()
    }

    /// The event that probes a host was found; none if there is none, and the probe is given back.
    pub fn found_probe(&mut self, host: &Host, id: Option<EventId>) -> Verdict {
        match (self.ways.get_mut(host), id) {
            (Some(Way::Probe(_, probe @ None)), Some(id)) => {
                *probe = Some(id);
                Verdict::Stays
            }
            (Some(way @ Way::Probe(_, None)), None) => {
                *way = Way::Shut;
                Verdict::Released
            }
            _ => Verdict::Stays,
        }
    }

    /// The event that probes a host will not be sent.
    pub fn lose_probe(&mut self, host: &Host, id: EventId) -> Verdict {
        if !self.probes(host, id) {
            return Verdict::Stays;
        }
        self.ways.insert(host.clone(), Way::Shut);
        Verdict::Released
    }

    /// An attempt has ended that was sent.
    pub fn ended(&mut self, host: &Host, seen: Seen, policy: &GatePolicy, place: Place) -> Verdict {
        let is_probe = self.probes(host, seen.id);
        let Some(way) = self.ways.get_mut(host) else { return self.count(host, seen, policy, place) };
        let (next, verdict) = match (*way, seen.sign) {
            (Way::Shut | Way::Probe(..), Sign::Well) => (Way::Opening(1, 0), Verdict::Opens),
            (Way::Probe(..), Sign::Unreachable | Sign::Unwell | Sign::Unclear) if is_probe => {
                (Way::Shut, Verdict::Failed)
            }
            (Way::Probe(..), Sign::Nothing) if is_probe => (Way::Shut, Verdict::Released),
            // It was under way when the gate shut.
            (Way::Shut | Way::Probe(..), _) => return Verdict::Stays,
            (Way::Opening(..), sign) => {
                if sign == Sign::Well {
                    match wider(*way, place.full) {
                        Some(wider) => *way = wider,
                        None => drop(self.ways.remove(host)),
                    }
                }
                return self.count(host, seen, policy, place);
            }
        };
        *way = next;
        verdict
    }

    fn count(&mut self, host: &Host, seen: Seen, policy: &GatePolicy, Place { now, last_well, .. }: Place) -> Verdict {
        match seen.sign {
            Sign::Nothing | Sign::Unclear => return Verdict::Stays,
            Sign::Well => {
                if !self.rows.is_empty() {
                    self.rows.remove(host);
                }
                return Verdict::Stays;
            }
            Sign::Unwell if now.saturating_sub(seen.took) < last_well => return Verdict::Stays,
            Sign::Unreachable | Sign::Unwell => {}
        }
        if policy.failures == 0 || !self.has_room_for(host, now) {
            return Verdict::Stays;
        }
        let row = self.rows.entry(host.clone()).or_default();
        if now.saturating_sub(row.last) > ROW_ENDS {
            *row = Row::default();
        }
        let Seen { id, failed_before: before, sign, took } = seen;
        row.note(Failed { sign, id, before, took }, now);
        let is_opening = self.ways.contains_key(host);
        let shuts = if is_opening { row.shuts_again(policy.failures) } else { row.shuts(policy.failures) };
        if !shuts || self.pending.len() >= MOST_CHANGES {
            return Verdict::Stays;
        }
        self.rows.remove(host);
        self.ways.insert(host.clone(), Way::Shut);
        Verdict::Shuts
    }

    /// Makes room for one more row, by those that are over.
    fn has_room_for(&mut self, host: &Host, now: Duration) -> bool {
        if self.rows.len() >= MOST_ROWS && !self.rows.contains_key(host) {
            self.rows.retain(|_, row| now.saturating_sub(row.last) <= ROW_ENDS);
        }
        self.rows.len() < MOST_ROWS || self.rows.contains_key(host)
    }

    /// A host gets nothing more, until the store says otherwise.
    pub fn shut(&mut self, host: &Host) {
        self.ways.insert(host.clone(), Way::Shut);
    }

    /// Whether a change is on its way to the store.
    #[must_use]
    pub fn has_change(&self, host: &Host) -> bool {
        self.pending.contains_key(host)
    }

    /// A change is on its way to the store.
    pub fn note_change(&mut self, host: &Host) {
        *self.pending.entry(host.clone()).or_default() += 1;
    }
}

/// One more good answer to an opening host; none if it is wide open now.
fn wider(way: Way, full: usize) -> Option<Way> {
    let Way::Opening(limit, answered) = way else { return Some(way) };
    if answered + 1 < limit {
        return Some(Way::Opening(limit, answered + 1));
    }
    (limit * 2 < full).then_some(Way::Opening(limit * 2, 0))
}
