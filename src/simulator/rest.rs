//! Is everything at rest?

use super::world::World;
use crate::domain::event::Sequence;
use crate::domain::waits::WaitsFor;
use crate::store::position::UNNUMBERED;

impl World {
    /// What is still open, if anything is: with its reason.
    pub(super) fn what_is_open(&self) -> Option<String> {
        for (id, open) in &self.store.open {
            let number = (open.position > UNNUMBERED).then_some(Sequence(open.position));
            let next = self.store.sequences.get(&open.entity).copied().map(Sequence);
            let waits_for = WaitsFor::of(open.state, open.parked, number, next);
            // The number that it waits for was acknowledged, and then forgotten.
            if matches!(waits_for, WaitsFor::Sequence(_)) && self.promises.is_excused(&open.entity) {
                continue;
            }
            return Some(format!("event {id} of {} waits for: {waits_for} ({open:?})", open.entity));
        }
        for (number, queue) in self.broker.queues.iter().enumerate() {
            if !queue.is_empty() {
                return Some(format!("there are messages in queue {number}"));
            }
            if !self.broker.due[number].is_empty() {
                return Some(format!("there are messages in due queue {number}"));
            }
        }
        if let Some((id, letter)) = self.store.letters.iter().find(|(_, letter)| !letter.published) {
            return Some(format!("the letter of event {id} is not published: {letter:?}"));
        }
        if let Some((id, note)) = self.store.strays.first_key_value() {
            return Some(format!("nobody has looked at the note about event {id}: {note:?}"));
        }
        for worker in self.workers() {
            let busy = worker.writing.is_some() || !worker.commands.is_empty() || !worker.attempts.is_empty();
            if busy || !worker.tickets.is_empty() {
                return Some(format!("worker {:?} is at work", worker.who()));
            }
            if let Some((host, in_flight, waiting)) = worker.engine.loads().next() {
                return Some(format!(
                    "worker {:?} keeps something of {host}, which has no work: {in_flight} in flight, {waiting} wait",
                    worker.who()
                ));
            }
        }
        self.promises.lost(&self.store, &self.broker)
    }
}
