//! Where the lines of busy entities go on.
//!
//! The head of a line is found by its index, whose entries of events that are over stay until they are vacuumed; as long as
//! anybody holds an old snapshot open (a dump, a replica), none are. A line that many events go through would be searched
//! through all of them again for each. So a floor is remembered: below it, nothing is open but what was redriven, which has a
//! position of its own.

use std::collections::HashMap;

use super::position::REDRIVEN;
use crate::domain::event::{Entity, Event, EventId};

/// Entities that are remembered. Beyond it, all are forgotten: floors save time, no more.
const ENTITIES: usize = 8_192;

/// The position and number of the last event of a line that has become final.
///
/// It holds whoever writes: the events of an entity are numbered under a lock, and one below the last that is final is final,
/// or was redriven. Only a database that forgets commits can make it wrong; it is gone with the connection.
#[derive(Default)]
pub struct Floors {
    by_entity: HashMap<Entity, (i64, i64)>,
}

impl Floors {
    /// An event has become final, and was the head of its line.
    pub fn raise(&mut self, event: &Event, id: EventId) {
        let place = (event.sequence.map_or(super::position::UNNUMBERED, |sequence| sequence.0), id.0);
        if let Some(floor) = self.by_entity.get_mut(&event.entity) {
            *floor = place.max(*floor);
            return;
        }
        if self.by_entity.len() >= ENTITIES {
            self.by_entity.clear();
        }
        self.by_entity.insert(event.entity.clone(), place);
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        self.by_entity.clear();
    }

    /// Of each entity, position and number behind which its line goes on.
    pub fn of<'a>(&self, entities: impl Iterator<Item = &'a Entity>) -> (Vec<i64>, Vec<i64>) {
        entities.map(|entity| self.by_entity.get(entity).copied().unwrap_or((REDRIVEN, i64::MAX))).unzip()
    }
}
