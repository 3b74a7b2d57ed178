//! Open events that somebody should have in hand: are they?

use super::Engine;
use super::command::{Command, Confirmed, Ready, Suspect, Suspicion};
use super::input::{Adrift, Note};
use super::leases::Grant;
use crate::domain::candidate::Candidate;
use crate::domain::event::EventId;

impl<G: Grant> Engine<G> {
    /// Has the store look once more at those that are not in hand: what is in hand now may not have been when the store was
    /// looked through, and the other way round.
    pub(super) fn look_closer(&mut self, mut suspects: Vec<Suspect>) {
        suspects.retain(|suspect| match suspect.suspicion {
            Suspicion::InFlight => !self.in_hand.contains_key(&suspect.id),
            Suspicion::Ready => !self.lanes.has(&suspect.entity) && !self.parking.contains_key(&suspect.id),
            Suspicion::Orphan => true,
        });
        suspects.retain(|suspect| self.leases.hold(suspect.partition).is_some());
        if suspects.is_empty() {
            return;
        }
        let held = suspects.iter().filter_map(|suspect| self.leases.hold(suspect.partition)).collect();
        self.write(Command::Audit { suspects, held });
    }

    /// Results come in the order of the commits: what is in flight in the store now and not in hand, nobody has in hand.
    pub(super) fn audited(&mut self, confirmed: Confirmed) {
        let Confirmed { in_flight, ready, orphans } = confirmed;
        for candidate in in_flight {
            self.adopt_if_not_in_hand(candidate);
        }
        for Ready { id, partition, entity, host } in ready {
            // It may have been read, and be about to be parked again, since the store has looked.
            let is_in_hand = self.lanes.has(&entity) || self.parking.contains_key(&id);
            let Some(held) = self.leases.hold(partition).filter(|_| !is_in_hand) else { continue };
            self.effects.notes.push(Note::Rescued { id, entity, adrift: Adrift::Ready });
            self.write(Command::Park { id, held });
            self.look_for_parked(&[host]);
        }
        let rescued = orphans.into_iter().map(|(id, entity)| Note::Rescued { id, entity, adrift: Adrift::Orphan });
        self.effects.notes.extend(rescued);
    }

    /// An event is in the store's hands.
    pub(super) fn parked(&mut self, id: EventId) {
        if let Some(on_their_way) = self.parking.get_mut(&id) {
            *on_their_way -= 1;
            if *on_their_way == 0 {
                self.parking.remove(&id);
            }
        }
    }

    fn adopt_if_not_in_hand(&mut self, candidate: Candidate) {
        let id = candidate.id;
        let Some(held) = self.leases.hold(candidate.event.partition) else { return };
        if self.in_hand.contains_key(&id) {
            return;
        }
        let (entity, adrift) = (candidate.event.entity.clone(), Adrift::InFlight(candidate.attempts));
        self.effects.notes.push(Note::Rescued { id, entity, adrift });
        self.adopt(candidate, &held);
    }
}
