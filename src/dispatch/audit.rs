//! Open events that somebody should have in hand: are they?

use super::Dispatch;
use crate::domain::event::{EventId, Partition};
use crate::store::audit::{Confirmed, Ready, Suspect, Suspicion};
use crate::store::lease::Held;
use crate::store::line::StoredEvent;
use crate::store::writer::Command;
use crate::telemetry::metrics;

impl Dispatch {
    /// Has the writer look once more at those that are not in hand: what is in hand now may not have been when the store was
    /// looked through, and the other way round.
    pub(super) fn look_closer(&mut self, suspects: Vec<Suspect>) {
        let mut suspects = suspects;
        suspects.retain(|suspect| match suspect.suspicion {
            Suspicion::InFlight => !self.in_hand.contains_key(&suspect.id),
            Suspicion::Ready => !self.lanes.has(&suspect.entity),
            Suspicion::Orphan => true,
        });
        suspects.retain(|suspect| self.hold(suspect.partition).is_some());
        if suspects.is_empty() {
            return;
        }
        let held = suspects.iter().filter_map(|suspect| self.hold(suspect.partition)).collect();
        self.outbox.push_back(Command::Audit { suspects, held });
    }

    /// Results come in the order of the commits: what is in flight in the store now and not in hand, nobody has in hand.
    pub(super) fn audited(&mut self, confirmed: Confirmed) {
        let Confirmed { in_flight, ready, orphans } = confirmed;
        for event in in_flight {
            self.adopt_if_not_in_hand(&event);
        }
        for Ready { id, partition, entity, host } in ready {
            let Some(held) = self.hold(partition).filter(|_| !self.lanes.has(&entity)) else { continue };
            tracing::warn!(event = %id, entity = entity.as_str(), "an event was ready to be sent, and nobody had it in hand: it is taken up");
            metrics::rescued("ready");
            self.outbox.push_back(Command::Park { id, held });
            self.look_for_parked(&[host]);
        }
        for (id, entity) in orphans {
            tracing::error!(event = %id, entity = entity.as_str(), "an open event is gone from the database, which only a hand or a lost commit can bring about: its entity goes on without it");
            metrics::rescued("orphan");
        }
    }

    fn adopt_if_not_in_hand(&mut self, event: &StoredEvent) {
        let id = EventId(event.event_id);
        let ours: Option<Held> = self.hold(Partition(event.partition));
        let Some(held) = ours.filter(|_| !self.in_hand.contains_key(&id)) else { return };
        tracing::warn!(event = %id, entity = event.entity, attempt = event.attempts, "an attempt was recorded, and nobody had it in hand: its outcome is unknown, and it is made again");
        metrics::rescued("in_flight");
        self.adopt(event, &held);
    }
}
