//! What the store gives back becomes what the engine works with.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::broker::wire;
use crate::domain::candidate::Candidate;
use crate::domain::contract::{self, Kept};
use crate::domain::event::{Event, EventId, Partition, Sequence, Target};

use crate::engine::command::{Confirmed, Front, Woken};
use crate::store::line::StoredEvent;
use crate::store::{audit, line};

/// An event from the store, read by the same contract as when it came in. None only if a hand has changed the row.
fn restore(stored: &StoredEvent) -> Option<Candidate> {
    let id = EventId(stored.event_id);
    let event = read(stored);
    if event.is_none() {
        tracing::error!(event = %id, "the event can't be read back from the database; it stays where it is");
    }
    let count = |stored: i16| u16::try_from(stored).unwrap_or_default();
    let (attempts, unknown) = (count(stored.attempts), count(stored.unknown));
    event.map(|event| Candidate { id, attempts, unknown, event: Arc::new(event) })
}

fn read(stored: &StoredEvent) -> Option<Event> {
    let properties = wire::decode(&stored.properties);
    let mut message = wire::message(&stored.entity, &properties, stored.body.clone());
    message.properties = stored.properties.clone().into();
    let kept = Kept {
        key: stored.idempotency_key.as_str().into(),
        partition: Partition(stored.partition),
        sequence: stored.sequence.map(Sequence),
        destination: Target::read_back(&stored.destination)?,
    };
    let mut event = contract::read_back(message, kept);
    event.trace = stored.trace.as_deref().and_then(|trace| HeaderValue::from_str(trace).ok());
    event.ingested_ms = u64::try_from(stored.recorded_ms).unwrap_or(0);
    Some(event)
}

/// Those that can be read back.
pub(super) fn all(stored: &[StoredEvent]) -> Vec<Candidate> {
    stored.iter().filter_map(restore).collect()
}

/// Up to an event that can't be read back: it holds up its line.
pub(super) fn front(front: line::Front) -> Front {
    let line::Front { entity, events: stored, more } = front;
    let events: Vec<Candidate> = stored.iter().map_while(restore).collect();
    Front { entity, more: more || events.len() < stored.len(), events }
}

pub(super) fn woken(woken: line::Woken) -> Option<Woken> {
    Some(match woken {
        line::Woken::Due { event, waited_ms, late_ms } => {
            Woken::Due { event: restore(&event)?, waited: millis(waited_ms), late: millis(late_ms) }
        }
        line::Woken::Early { token, partition, millis } => {
            Woken::Early { token, partition, delay: Duration::from_millis(millis.unsigned_abs()) }
        }
    })
}

pub(super) fn confirmed(confirmed: audit::Confirmed) -> Confirmed {
    let audit::Confirmed { in_flight, ready, orphans } = confirmed;
    Confirmed { in_flight: all(&in_flight), ready, orphans }
}

/// What the database has measured.
fn millis(measured: i64) -> Duration {
    Duration::from_millis(u64::try_from(measured).unwrap_or(0))
}
