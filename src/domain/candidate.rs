//! An event as those who work on it pass it on, and the token that names its wait.

use std::sync::Arc;

use super::event::{Event, EventId};

/// An event whose turn has come or may come soon.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its number in the store.
    pub id: EventId,
    /// Attempts begun so far.
    pub attempts: u16,
    /// Of these, the ones whose outcome is unknown.
    pub unknown: u16,
    /// The event.
    pub event: Arc<Event>,
}

impl Candidate {
    /// Names its present wait.
    #[must_use]
    pub fn token(&self) -> Token {
        Token { id: self.id, attempts: self.attempts }
    }
}

/// Names an event's wait. A token for an attempt that has begun since is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The event.
    pub id: EventId,
    /// Attempts begun when it was made.
    pub attempts: u16,
}
