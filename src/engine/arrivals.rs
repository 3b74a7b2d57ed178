//! Arrivals meet the engine before they are recorded: where each waits for its host, whether its first attempt begins with its
//! record, and whether it has to wait before it is recorded at all.
//!
//! While the queue of its host is full and moves, an arrival waits here, and all that came by the same partition's queue wait
//! behind it. Bounded by what intake has under way at a time: a few batches for each partition.

use std::collections::{BTreeMap, VecDeque};

use super::Engine;
use super::command::{Arrival, Command, Place, Ticket};
use super::hosts::Offer;
use super::leases::{Grant, Proof};
use crate::domain::event::{Host, Partition};

type Queue<P> = VecDeque<(Ticket, VecDeque<Arrival<P>>)>;

/// Arrivals that wait.
pub struct Arrivals<P> {
    queues: BTreeMap<Partition, Queue<P>>,
    /// Partitions with a queue, in the order in which they look again.
    round: VecDeque<Partition>,
    /// Bytes of body of arrivals that have a place in memory, and are being recorded.
    pub(super) bytes: usize,
}

impl<P> Default for Arrivals<P> {
    fn default() -> Self {
        Self { queues: BTreeMap::new(), round: VecDeque::new(), bytes: 0 }
    }
}

impl<P> Arrivals<P> {
    /// Whether any arrival waits.
    pub(super) fn are_waiting(&self) -> bool {
        !self.round.is_empty()
    }

    /// Drops what came by a partition's queue.
    pub(super) fn forget_partition(&mut self, partition: Partition) -> Vec<Ticket> {
        self.round.retain(|waiting| *waiting != partition);
        self.queues.remove(&partition).into_iter().flatten().map(|(ticket, _)| ticket).collect()
    }

    /// Drops them all.
    pub(super) fn forget_all(&mut self) -> Vec<Ticket> {
        self.round.clear();
        std::mem::take(&mut self.queues).into_values().flatten().map(|(ticket, _)| ticket).collect()
    }

    fn pop(&mut self, partition: Partition) -> Option<(Ticket, VecDeque<Arrival<P>>)> {
        let queue = self.queues.get_mut(&partition)?;
        let first = queue.pop_front();
        if first.is_none() {
            self.queues.remove(&partition);
        }
        first
    }
}

impl<G: Grant> Engine<G> {
    pub(super) fn arrived(&mut self, ticket: Ticket, arrivals: Vec<Arrival<G::Proof>>) {
        let Some(first) = arrivals.first() else { return };
        let partition = first.held.partition();
        if self.draining || !self.leases.is_current(&first.held) {
            self.effects.refused.push(ticket);
            return;
        }
        let is_new = !self.arrivals.queues.contains_key(&partition);
        self.arrivals.queues.entry(partition).or_default().push_back((ticket, arrivals.into()));
        if is_new && self.admit_from(partition) {
            self.arrivals.round.push_back(partition);
        }
    }

    /// Lets those that wait look again, if there may be room: each partition once.
    pub(super) fn admit_waiting(&mut self) {
        if !std::mem::take(&mut self.room) {
            return;
        }
        for _ in 0..self.arrivals.round.len() {
            let Some(partition) = self.arrivals.round.pop_front() else { return };
            if self.admit_from(partition) {
                self.arrivals.round.push_back(partition);
            }
        }
    }

    /// Has the first arrivals of a partition recorded, up to one that has to wait. True if there is one.
    fn admit_from(&mut self, partition: Partition) -> bool {
        while let Some((ticket, mut waiting)) = self.arrivals.pop(partition) {
            let mut arrivals = Vec::with_capacity(waiting.len());
            while let Some(mut arrival) = waiting.pop_front() {
                let Some(place) = self.find_place(&arrival) else {
                    waiting.push_front(arrival);
                    break;
                };
                arrival.place = place;
                arrivals.push(arrival);
            }
            if !arrivals.is_empty() {
                self.write(Command::Admit { ticket, arrivals });
            }
            if !waiting.is_empty() {
                self.arrivals.queues.entry(partition).or_default().push_front((ticket, waiting));
                return true;
            }
        }
        false
    }

    /// None: its host's queue is full and moves.
    fn find_place(&mut self, arrival: &Arrival<G::Proof>) -> Option<Place> {
        let event = &arrival.event;
        if self.hosts.is_paused(&event.entity) {
            return Some(Place::Store);
        }
        match self.hosts.offer(&event.host, self.now) {
            Offer::Wait => return None,
            Offer::Park => return Some(Place::Store),
            Offer::Ready => {}
        }
        let bytes = event.body.len();
        if self.arrivals.bytes + self.lanes.bytes() + bytes > self.rules.bodies {
            self.hosts.release_place(&event.host);
            return Some(Place::Store);
        }
        self.arrivals.bytes += bytes;
        // One whose entity is at work is behind others.
        let may_begin = !self.lanes.has(&event.entity) && self.leases.is_taken_over(&arrival.held);
        let begins = may_begin && self.hosts.begin_in_place(&event.host);
        Some(if begins { Place::Begun } else { Place::Memory })
    }

    /// Gives back a place that is not needed.
    pub(super) fn release(&mut self, host: &Host, place: Place) {
        match place {
            Place::Store => {}
            Place::Memory => {
                self.hosts.release_place(host);
                self.room = true;
            }
            Place::Begun => self.free(host, false, None),
        }
    }
}
