//! The store of the model: rows that are open, numbers, keys and what became final, with the reads that SQL would do.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use super::partition_of;
use crate::domain::admission::{Line, Newcomer};
use crate::domain::event::Digest;
use crate::domain::lifecycle::{Change, State};

/// An open event as the store holds it.
pub(super) struct Row {
    pub(super) candidate: Candidate,
    pub(super) state: State,
    pub(super) parked: bool,
}

impl Row {
    pub(super) fn read(&self) -> Candidate {
        self.candidate.clone()
    }

    pub(super) fn apply(&mut self, change: Change) {
        self.state = self.state.after(change).expect("only legal changes are asked for");
    }
}

/// An entity's order: those without a number first, then by number.
pub(super) type Place = (Option<Sequence>, EventId);

pub(super) fn place(candidate: &Candidate) -> Place {
    (candidate.event.sequence, candidate.id)
}

#[derive(Default)]
pub(super) struct Store {
    pub(super) open: BTreeMap<Entity, BTreeMap<Place, Row>>,
    pub(super) next: BTreeMap<Entity, Sequence>,
    /// Of every event that ever joined, at the place of its id.
    pub(super) keys: Vec<(Entity, Option<Sequence>, Digest)>,
    pub(super) finals: BTreeMap<EventId, State>,
}

impl Store {
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.open.values().flat_map(BTreeMap::values)
    }

    pub(super) fn rows_mut(&mut self) -> impl Iterator<Item = &mut Row> {
        self.open.values_mut().flat_map(BTreeMap::values_mut)
    }

    pub(super) fn row(&mut self, id: EventId) -> Option<&mut Row> {
        let (entity, sequence, _) = &self.keys[usize::try_from(id.0).unwrap()];
        self.open.get_mut(entity)?.get_mut(&(*sequence, id))
    }

    /// Whether nothing of its entity has to become final before it: the rule that all this is about, in its own words.
    pub(super) fn is_next(&self, entity: &Entity, place: Place) -> bool {
        let first = self.open.get(entity).and_then(|line| line.keys().next());
        first.is_none_or(|first| place <= *first)
            && place.0.is_none_or(|sequence| self.next.get(entity).is_none_or(|next| *next == sequence))
    }

    pub(super) fn facts(&self, entity: &Entity, asked: &[(Option<i64>, usize)]) -> Line {
        let positions: Vec<Option<Sequence>> =
            self.open.get(entity).into_iter().flat_map(BTreeMap::keys).map(|place| place.0).collect();
        let asked: BTreeSet<Sequence> = asked.iter().filter_map(|(sequence, _)| sequence.map(Sequence)).collect();
        Line {
            next: self.next.get(entity).copied(),
            unnumbered_open: positions.first() == Some(&None),
            home: (!positions.is_empty()).then(|| super::partition_of(entity)),
            taken: positions.into_iter().flatten().filter(|sequence| asked.contains(sequence)).collect(),
        }
    }

    /// The front of a line: PENDING events up to a gap, and whether any event is left behind them.
    pub(super) fn read_front(&self, entity: &Entity, limit: usize) -> (Vec<Candidate>, bool) {
        let Some(line) = self.open.get(entity) else { return (Vec::new(), false) };
        let mut expected = self.next.get(entity).copied();
        let in_turn = |(place, row): &(&Place, &Row)| {
            let in_turn = place.0.is_none() || place.0 == expected;
            expected = place.0.map_or(expected, |sequence| Some(sequence.next()));
            in_turn && row.state == State::Pending
        };
        let front: Vec<Candidate> = line.iter().take(limit).take_while(in_turn).map(|(_, row)| row.read()).collect();
        let more = line.len() > front.len();
        (front, more)
    }
}

/// An arrival of an entity, by its partition's queue.
pub(super) fn newcomer(entity: &Entity, sequence: Option<Sequence>, digest: Digest) -> Newcomer {
    Newcomer { sequence, digest, came_by: partition_of(entity), is_sent_back: false }
}
