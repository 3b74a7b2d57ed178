//! An event from the store becomes one to deliver again.

use std::sync::Arc;

use http::HeaderValue;
use url::Url;

use crate::broker::wire;
use crate::domain::candidate::Candidate;
use crate::domain::contract::{self, Kept};
use crate::domain::event::{Event, EventId, Partition, Sequence};

use crate::store::line::StoredEvent;

/// An event from the store, read by the same contract as when it came in. None only if a hand has changed the row.
pub(super) fn restore(stored: &StoredEvent) -> Option<Candidate> {
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
        destination: Url::parse(&stored.destination).ok()?,
    };
    let mut event = contract::read_back(message, kept);
    event.trace = stored.trace.as_deref().and_then(|trace| HeaderValue::from_str(trace).ok());
    event.taken_in = u64::try_from(stored.recorded_ms).unwrap_or(0);
    Some(event)
}
