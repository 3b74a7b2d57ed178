//! What is ours: the leases, and what their former owners left.

use std::collections::{BTreeMap, HashMap};

use super::command::Command;
use super::{Engine, Host};
use crate::domain::candidate::Candidate;
use crate::domain::event::Partition;
use crate::domain::verdict::Outcome;

/// A lease on a partition.
pub trait Grant: Clone {
    /// Proof that it is held.
    type Proof: Proof;

    /// The partition.
    fn partition(&self) -> Partition;

    /// Grows with every change of owner.
    fn epoch(&self) -> i64;

    /// Proof for one piece of work. None if nothing may begin under the lease any more.
    fn hold(&self) -> Option<Self::Proof>;
}

/// Proof that a lease was held when a piece of work began.
pub trait Proof: Clone {
    /// The partition.
    fn partition(&self) -> Partition;

    /// The epoch that the store has to have for a write.
    fn epoch(&self) -> i64;
}

struct Known<G> {
    lease: G,
    /// What the former owner left has been looked at. An attempt that is recorded before would be taken for one of those
    /// that it left in flight.
    taken_over: bool,
}

/// The leases that are ours. One that is closed or lost is among them until we are told that it is gone.
pub struct Leases<G> {
    by_partition: BTreeMap<Partition, Known<G>>,
}

impl<G> Default for Leases<G> {
    fn default() -> Self {
        Self { by_partition: BTreeMap::new() }
    }
}

impl<G: Grant> Leases<G> {
    /// Proof for one piece of work; none if the partition is not ours (any more).
    #[must_use]
    pub fn hold(&self, partition: Partition) -> Option<G::Proof> {
        self.by_partition.get(&partition).and_then(|known| known.lease.hold())
    }

    /// Proof for a look at everything that is ours.
    #[must_use]
    pub fn hold_all(&self) -> Vec<G::Proof> {
        self.by_partition.values().filter_map(|known| known.lease.hold()).collect()
    }

    /// Whether a partition is ours.
    #[must_use]
    pub fn has(&self, partition: Partition) -> bool {
        self.by_partition.contains_key(&partition)
    }

    /// Whether a proof is of a lease that is still ours.
    pub fn is_current(&self, held: &G::Proof) -> bool {
        self.by_partition.get(&held.partition()).is_some_and(|known| known.lease.epoch() == held.epoch())
    }

    /// Whether what the former owner left has been looked at.
    pub fn is_taken_over(&self, held: &G::Proof) -> bool {
        let known = self.by_partition.get(&held.partition());
        known.is_some_and(|known| known.taken_over && known.lease.epoch() == held.epoch())
    }

    fn note_taken_over(&mut self, held: &G::Proof) {
        let known = self.by_partition.get_mut(&held.partition());
        if let Some(known) = known.filter(|known| known.lease.epoch() == held.epoch()) {
            known.taken_over = true;
        }
    }

    /// Takes those that are not known yet, and gives up those that are not there any more: gives the partitions of these,
    /// and proof of those.
    fn follow(&mut self, owned: Vec<G>) -> (Vec<Partition>, Vec<G::Proof>) {
        let epochs: HashMap<Partition, i64> = owned.iter().map(|lease| (lease.partition(), lease.epoch())).collect();
        let is_gone = |partition: &Partition, known: &mut Known<G>| epochs.get(partition) != Some(&known.lease.epoch());
        let gone = self.by_partition.extract_if(.., is_gone).map(|(partition, _)| partition).collect();
        let mut new = Vec::new();
        for lease in owned {
            if self.by_partition.contains_key(&lease.partition()) {
                continue;
            }
            if let Some(held) = lease.hold() {
                new.push(held);
                self.by_partition.insert(lease.partition(), Known { lease, taken_over: false });
            }
        }
        (gone, new)
    }
}

impl<G: Grant> Engine<G> {
    /// New leases are taken over; what hangs on those that are gone is forgotten.
    pub(super) fn follow_leases(&mut self, owned: Vec<G>) {
        let (gone, new) = self.leases.follow(owned);
        for partition in gone {
            for host in self.lanes.forget_partition(partition) {
                self.hosts.forget(&host, |entity| !self.lanes.has(entity));
                self.room = true;
            }
            self.in_hand.retain(|_, (of, _)| *of != partition);
            // Whoever has the partition now settles them.
            for attempt in self.begun.take_of(partition) {
                self.free(&attempt.candidate.event.host, false, None);
            }
            let refused = self.arrivals.forget_partition(partition);
            self.effects.refused.extend(refused);
        }
        for held in new {
            self.write(Command::TakeOver { held });
        }
    }

    pub(super) fn taken_over(&mut self, held: &G::Proof, in_flight: Vec<Candidate>, hosts: &[Host]) {
        self.leases.note_taken_over(held);
        for candidate in in_flight {
            self.adopt(candidate, held);
        }
        self.look_for_parked(hosts);
    }

    /// Settles an attempt that is recorded and that nobody has in hand.
    pub(super) fn adopt(&mut self, candidate: Candidate, held: &G::Proof) {
        self.take_in_hand(&candidate, held);
        // With a lane of its own, its line goes on if it was the last attempt.
        let entity = candidate.event.entity.clone();
        if self.lanes.woken(candidate.clone()) {
            self.lanes.start(&entity);
        }
        self.give_up(candidate, held.clone(), Outcome::Unknown);
    }
}
