//! What others ask of the store: the sweeps, and those who publish dead letters.

use std::collections::BTreeSet;
use std::time::Duration;

use super::transaction::micros;
use super::{Letter, Rule, Store};
use crate::domain::candidate::Token;
use crate::domain::event::{Entity, EventId, Host, Partition};
use crate::domain::lifecycle::State;
use crate::engine::command::{Suspect, Suspicion};

impl Store {
    /// Hosts that have parked events in these partitions.
    #[must_use]
    pub fn parked_hosts(&self, partitions: &[Partition], limit: usize) -> Vec<Host> {
        let parked = self.open.values().filter(|open| open.parked && partitions.contains(&open.partition));
        let hosts: BTreeSet<Host> = parked.map(|open| open.host.clone()).collect();
        hosts.into_iter().take(limit).collect()
    }

    /// Retries that are overdue by more than `late`.
    #[must_use]
    pub fn overdue(&self, partitions: &[Partition], late: Duration, now: Duration) -> Vec<(Partition, Entity, Token)> {
        let waits = self.open.iter().filter(|(_, open)| {
            let is_overdue = open.due.is_some_and(|due| due + late < now);
            open.state == State::RetryWait && !open.parked && is_overdue && partitions.contains(&open.partition)
        });
        waits
            .map(|(id, open)| (open.partition, open.entity.clone(), Token { id: *id, attempts: open.attempts }))
            .collect()
    }

    /// Whether there are notes for the owner of these partitions.
    #[must_use]
    pub fn has_strays(&self, partitions: &[Partition]) -> bool {
        self.strays.values().any(|(partition, _)| partitions.contains(partition))
    }

    /// Open events that somebody should have in hand.
    #[must_use]
    pub fn suspects(&self, partitions: &[Partition]) -> Vec<Suspect> {
        let mut suspects = Vec::new();
        for (id, open) in self.open.iter().filter(|(_, open)| partitions.contains(&open.partition)) {
            let is_first = || self.lines.get(&open.entity).and_then(BTreeSet::first) == Some(&(open.position, *id));
            let suspicion = match open.state {
                State::InFlight => Some(Suspicion::InFlight),
                State::Pending if !open.parked && is_first() => Some(Suspicion::Ready),
                _ => None,
            };
            let is_gone = !self.events.contains_key(id);
            for suspicion in suspicion.into_iter().chain(is_gone.then_some(Suspicion::Orphan)) {
                let (partition, entity, attempts) = (open.partition, open.entity.clone(), open.attempts);
                suspects.push(Suspect { id: *id, partition, entity, attempts, suspicion });
            }
        }
        suspects
    }

    /// Letters that have waited for more than `late`.
    #[must_use]
    pub fn left_behind(&self, partitions: &[Partition], late: Duration, now: Duration) -> Vec<(EventId, Partition)> {
        let late_us = micros(now.saturating_sub(late));
        let waits = self.letters.iter().filter(|(_, letter)| {
            !letter.published && letter.failed_us < late_us && partitions.contains(&letter.partition)
        });
        waits.map(|(id, letter)| (*id, letter.partition)).collect()
    }

    /// A letter that is not published, if its event is still there.
    #[must_use]
    pub fn unpublished(&self, id: EventId) -> Option<Letter> {
        self.letters.get(&id).filter(|letter| !letter.published && self.events.contains_key(&id)).cloned()
    }

    /// The broker has confirmed a letter. Changes nothing if the partition has another epoch, or if the event has failed once
    /// more since.
    pub fn mark_published(&mut self, id: EventId, failed_us: i64, partition: Partition, epoch: i64) {
        let owned = self.owned(partition);
        let names_it = self.keeps(Rule::LettersNameTheirFailure);
        if owned.owner.is_none() || owned.epoch != epoch {
            return;
        }
        if let Some(letter) = self.letters.get_mut(&id).filter(|letter| letter.failed_us == failed_us || !names_it) {
            letter.published = true;
        }
    }

    /// Deletes events that are final for longer than `retention`, and gives their number. A letter that the broker has not confirmed keeps its event.
    pub fn expire(&mut self, retention: Duration, limit: usize, now: Duration) -> usize {
        let keeps_unpublished = self.keeps(Rule::KeepUnpublished);
        let expired = self.finals.iter().filter(|(id, last)| {
            let is_published = self.letters.get(id).is_none_or(|letter| letter.published);
            last.finished + retention < now && (is_published || !keeps_unpublished)
        });
        let expired: Vec<EventId> = expired.map(|(id, _)| *id).take(limit).collect();
        let were = self.events.len();
        for id in expired {
            self.forget(id);
        }
        were - self.events.len()
    }

    /// Takes an event away with all that belongs to it.
    pub(crate) fn forget(&mut self, id: EventId) {
        self.finals.remove(&id);
        self.letters.remove(&id);
        self.failed.retain(|(failed, _)| *failed != id);
        if let Some(kept) = self.events.remove(&id) {
            self.keys.remove(&kept.event.key);
        }
    }
}
