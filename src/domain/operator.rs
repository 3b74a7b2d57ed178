//! What operators decide about FAILED events.

use super::event::EventId;

/// What an operator decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Send it again, with all its attempts: FAILED → PENDING.
    Redrive,
    /// Let its entity go on without it.
    Skip,
}

/// A decision on an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decided {
    /// The event.
    pub id: EventId,
    /// What is decided.
    pub verb: Verb,
    /// When the event that was looked at had become FAILED, in microseconds since 1970. A decision that comes twice must not
    /// hold for a later failure. None if whoever decided did not say.
    pub failed_us: Option<i64>,
}
