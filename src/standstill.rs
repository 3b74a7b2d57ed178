//! Why a part of the worker stands still, and since when: for the log once, for readiness and metrics as long as it lasts.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock;

/// A part that stands still, or goes on.
#[derive(Debug, Default)]
pub struct Standstill(Mutex<Option<Cause>>);

/// Why something stands still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// In words, such as "the broker is unreachable (connection refused)".
    pub why: String,
    /// Since when, by [`clock::now`].
    since: Duration,
}

impl Cause {
    /// How long it has lasted.
    #[must_use]
    pub fn age(&self) -> Duration {
        clock::now().saturating_sub(self.since)
    }
}

impl Standstill {
    /// It stands still, for this reason, which may change while it lasts. True if it did not until now.
    pub fn begin(&self, why: String) -> bool {
        let mut cause = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = cause.as_ref().map(|cause| cause.since);
        *cause = Some(Cause { why, since: since.unwrap_or_else(clock::now) });
        since.is_none()
    }

    /// It goes on. How long it stood still, if it did.
    pub fn end(&self) -> Option<Duration> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().map(|cause| cause.age())
    }

    /// Why it stands still, if it does.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standstill_is_told_once_and_keeps_its_beginning_whatever_the_reason() {
        let part = Standstill::default();
        assert_eq!((part.cause(), part.end()), (None, None));
        assert!(part.begin("first".into()));
        let since = part.cause().map(|cause| cause.since);
        assert!(!part.begin("then".into()));
        assert_eq!(part.cause().map(|cause| (cause.why, Some(cause.since))), Some(("then".into(), since)));
        assert!(part.end().is_some() && part.begin("again".into()));
    }
}
