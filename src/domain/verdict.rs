//! What an attempt's outcome means: [`Outcome`] in, [`Decision`] out.

use std::collections::BTreeSet;
use std::time::Duration;

use super::backoff::Backoff;
use super::lifecycle::Change;

/// What came of one HTTP try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver answered.
    Response {
        /// The HTTP status.
        status: u16,
        /// What it asked for by `Retry-After` (RFC 9110 §10.2.3).
        retry_after: Option<Duration>,
        /// The beginning of the body of an answer other than 2xx.
        excerpt: String,
    },
    /// No answer came: a sentence that says why.
    NoResponse(String),
    /// The attempt was recorded, but its worker died or lost the lease: it may or may not have been sent.
    Unknown,
}

/// What we do about an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Delivered, once and for all.
    Deliver,
    /// Another attempt after the delay.
    Retry(Duration),
    /// No further attempt.
    Fail(Failure),
}

/// Why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The last attempt that the settings allow has failed.
    Exhausted,
    /// The receiver's status is one that is not retried.
    FinalStatus(u16),
}

impl Decision {
    /// The change of state that carries the decision out.
    #[must_use]
    pub fn change(self) -> Change {
        match self {
            Self::Deliver => Change::Deliver,
            Self::Retry(_) => Change::Retry,
            Self::Fail(_) => Change::Fail,
        }
    }
}

impl Failure {
    /// All codes.
    pub const CODES: [&'static str; 2] = ["exhausted", "final_status"];

    /// A short, stable name for programs and metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::FinalStatus(_) => "final_status",
        }
    }
}

/// The settings that a verdict needs.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Attempts before an event is FAILED.
    pub max_attempts: u16,
    /// The delay between attempts.
    pub backoff: Backoff,
    /// Statuses that are not retried.
    pub final_statuses: BTreeSet<u16>,
}

impl Policy {
    /// Judges the outcome of attempt number `attempt` (from 1).
    #[must_use]
    pub fn judge(&self, attempt: u16, outcome: &Outcome, seed: u64) -> Decision {
        match outcome {
            Outcome::Response { status: 200..=299, .. } => Decision::Deliver,
            Outcome::Response { status, .. } if self.final_statuses.contains(status) => {
                Decision::Fail(Failure::FinalStatus(*status))
            }
            _ if attempt >= self.max_attempts => Decision::Fail(Failure::Exhausted),
            Outcome::Response { retry_after, .. } => {
                let asked = retry_after.unwrap_or_default().min(self.backoff.max);
                Decision::Retry(self.backoff.delay(attempt, seed).max(asked))
            }
            Outcome::NoResponse(_) => Decision::Retry(self.backoff.delay(attempt, seed)),
            // The receiver did nothing wrong: there is no reason to let the entity wait.
            Outcome::Unknown => Decision::Retry(Duration::ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            max_attempts: 5,
            backoff: Backoff { initial: Duration::from_secs(1), max: Duration::from_mins(1), factor: 2.0, jitter: 0.1 },
            final_statuses: [410].into(),
        }
    }

    fn answer(status: u16, retry_after: Option<u64>) -> Outcome {
        Outcome::Response { status, retry_after: retry_after.map(Duration::from_secs), excerpt: String::new() }
    }

    #[test]
    fn outcomes_are_judged_by_the_table() {
        let retry = |seconds| Decision::Retry(Duration::from_secs(seconds));
        let exhausted = Decision::Fail(Failure::Exhausted);
        let table = [
            (1, answer(200, None), Decision::Deliver),
            (5, answer(299, None), Decision::Deliver),
            (1, answer(199, None), retry(1)),
            (1, answer(301, None), retry(1)),
            (2, answer(404, None), retry(2)),
            (4, answer(500, None), retry(8)),
            (5, answer(500, None), exhausted),
            (6, answer(500, None), exhausted),
            (1, answer(410, None), Decision::Fail(Failure::FinalStatus(410))),
            (5, answer(410, None), Decision::Fail(Failure::FinalStatus(410))),
            (1, answer(429, Some(30)), retry(30)),
            (4, answer(503, Some(3)), retry(8)),
            (1, answer(503, Some(86_400)), retry(60)),
            (3, Outcome::NoResponse("timeout".into()), retry(4)),
            (5, Outcome::NoResponse("timeout".into()), exhausted),
            (1, Outcome::Unknown, retry(0)),
            (5, Outcome::Unknown, exhausted),
        ];
        for (attempt, outcome, decision) in table {
            assert_eq!(policy().judge(attempt, &outcome, 0), decision, "attempt {attempt}, {outcome:?}");
        }
    }

    #[test]
    fn a_decision_is_always_legal_for_an_attempt_in_flight() {
        for decision in [Decision::Deliver, Decision::Retry(Duration::ZERO), Decision::Fail(Failure::Exhausted)] {
            assert!(super::super::lifecycle::State::InFlight.after(decision.change()).is_ok());
        }
    }

    #[test]
    fn failures_have_names_that_programs_rely_on() {
        assert_eq!([Failure::Exhausted.code(), Failure::FinalStatus(410).code()], Failure::CODES);
        assert_eq!(Failure::CODES, ["exhausted", "final_status"]);
    }
}
