//! What an attempt's outcome means: [`Outcome`] in, [`Decision`] out.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::backoff::Delays;
use super::guard::Forbidden;
use super::lifecycle::{End, State};

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
    /// No answer came.
    NoResponse(NoResponse),
    /// The attempt was recorded, but its worker died or lost the lease: it may or may not have been sent.
    Unknown,
    /// The attempt was recorded, and it is certain that nothing of it reached for the receiver.
    NotSent(NotSent),
    /// The destination is one that is not called, and was not.
    Forbidden(Forbidden),
}

impl Outcome {
    /// For how long the receiver wants to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Response { retry_after, status, .. } => {
                retry_after.filter(|_| may_ask_for_time(*status)).unwrap_or_default()
            }
            _ => Duration::ZERO,
        }
    }
}

/// In a few words, without what the receiver wrote.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Response { status, .. } => write!(f, "the answer was {status}"),
            Self::NoResponse(why) => why.fmt(f),
            Self::Unknown => f.write_str("nobody knows what came of it"),
            Self::NotSent(_) => f.write_str("it was not sent"),
            Self::Forbidden(why) => why.fmt(f),
        }
    }
}

/// Why no answer came. Each kind but the first says more, behind a colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoResponse {
    /// There was none within this time, at the end of which the attempt had come so far.
    Late(Duration, Phase),
    /// The host's name was not resolved.
    Dns(String),
    /// No connection was made.
    Connect(String),
    /// No agreement on TLS: certificates, versions.
    Tls(String),
    /// The way through the proxy did not open.
    Proxy(String),
    /// The connection was closed or reset before an answer.
    Closed(String),
    /// What came is not HTTP.
    Protocol(String),
    /// Anything else.
    Broken(String),
}

/// What an attempt was doing when its time was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The host's name was being resolved.
    Resolving,
    /// A connection was being opened, TLS included.
    Connecting,
    /// The request was being sent.
    Sending,
    /// It was sent as a whole, and there was no answer yet.
    Waiting,
}

impl NoResponse {
    /// A short, stable name for programs and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Late(_, Phase::Resolving) => "timeout_resolving",
            Self::Late(_, Phase::Connecting) => "timeout_connecting",
            Self::Late(_, Phase::Sending) => "timeout_sending",
            Self::Late(_, Phase::Waiting) => "timeout_waiting",
            Self::Dns(_) => "dns",
            Self::Connect(_) => "connect",
            Self::Tls(_) => "tls",
            Self::Proxy(_) => "proxy",
            Self::Closed(_) => "closed",
            Self::Protocol(_) => "protocol",
            Self::Broken(_) => "other",
        }
    }
}

impl fmt::Display for NoResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Late(timeout, phase) => {
                write!(f, "no answer within {}", humantime::format_duration(*timeout))?;
                f.write_str(match phase {
                    Phase::Resolving => ": the host's name was still being resolved",
                    Phase::Connecting => ": there was no connection yet",
                    Phase::Sending => ": the request was still being sent",
                    Phase::Waiting => "",
                })
            }
            Self::Dns(why) => write!(f, "the host's name was not resolved{why}"),
            Self::Connect(why) => write!(f, "no connection{why}"),
            Self::Tls(why) => write!(f, "no connection by TLS{why}"),
            Self::Proxy(why) => write!(f, "no connection through the proxy{why}"),
            Self::Closed(why) => write!(f, "no answer, the connection was closed{why}"),
            Self::Protocol(why) => write!(f, "no answer that is HTTP{why}"),
            Self::Broken(why) => write!(f, "no answer{why}"),
        }
    }
}

/// Why an attempt was not sent. What a person has to look after says more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotSent {
    /// The worker may not (any more): its lease or its share of the cap had ended.
    NotAllowed,
    /// The worker is short of something of its own, such as file descriptors or memory.
    Shortage(String),
    /// Its destination is not configured (any more).
    NoDestination,
    /// There is no token for its destination.
    NoToken(String),
    /// The gate of its host has shut in the meantime.
    GateShut,
}

impl NotSent {
    /// When it is tried again. A shortage needs a moment to pass.
    fn wait(&self) -> Duration {
        match self {
            Self::NotAllowed | Self::GateShut => Duration::ZERO,
            Self::Shortage(_) => Duration::from_secs(1),
            Self::NoDestination => Duration::from_secs(10),
            Self::NoToken(_) => Duration::from_secs(5),
        }
    }

    /// Why events wait, and what to do, for people; none if that passes by itself.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        match self {
            Self::NotAllowed | Self::GateShut => None,
            Self::Shortage(what) => Some(format!("the worker is short of something of its own: {what}")),
            Self::NoDestination => {
                Some("the destination is not configured any more: add it to the file of --destinations".into())
            }
            Self::NoToken(why) => Some(format!("there is no token for the destination: {why}")),
        }
    }
}

/// What we do about an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Delivered, once and for all.
    Deliver,
    /// Another attempt after the delay.
    Retry(Duration),
    /// No further attempt, and the entity goes on.
    Fail(Failure),
    /// No further attempt, and the event is on hold: its entity waits for an operator.
    Hold(Failure),
    /// As if the attempt had not begun: its number is free again. Another one after the delay.
    Withdraw(Duration),
}

/// Why there is no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The last attempt that the settings allow has failed.
    Exhausted,
    /// The receiver's status is one that is not retried.
    FinalStatus(u16),
    /// The outcome of too many attempts is unknown: perhaps it is this event that brings its workers down.
    OutcomeUnknown,
    /// The destination is one that is not called.
    Forbidden,
}

impl Decision {
    /// How the attempt ends by this decision.
    #[must_use]
    pub fn end(self) -> End {
        match self {
            Self::Deliver => End::Deliver,
            Self::Retry(_) => End::Retry,
            Self::Fail(_) | Self::Hold(_) => End::Fail,
            Self::Withdraw(_) => End::Withdraw,
        }
    }

    /// The state that carries the decision out.
    #[must_use]
    pub fn state(self) -> State {
        self.end().state()
    }

    /// Why there is no further attempt, if there is none for that.
    #[must_use]
    pub fn failure(self) -> Option<Failure> {
        match self {
            Self::Fail(failure) | Self::Hold(failure) => Some(failure),
            Self::Deliver | Self::Retry(_) | Self::Withdraw(_) => None,
        }
    }
}

impl Failure {
    /// All codes.
    pub const CODES: [&'static str; 4] = ["exhausted", "final_status", "outcome_unknown", "forbidden_destination"];

    /// A short, stable name for programs and metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::FinalStatus(_) => "final_status",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Forbidden => "forbidden_destination",
        }
    }
}

/// The settings that a verdict needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Failed attempts before an event is FAILED.
    pub max_attempts: u16,
    /// Attempts of unknown outcome before an event is FAILED.
    pub max_unknown: u16,
    /// The delay between attempts.
    pub delays: Delays,
    /// The most that a receiver's `Retry-After` puts the next attempt off.
    pub retry_after_max: Duration,
    /// Statuses that are not retried.
    pub final_statuses: BTreeSet<u16>,
    /// Statuses that are success instead of all from 200 to 299; empty for these.
    pub success_statuses: BTreeSet<u16>,
    /// A FAILED event is put on hold.
    pub hold: bool,
    /// What 410 Gone does.
    pub gone: Gone,
}

/// What 410 Gone does: by it, a receiver says that it wants no more events, and senders should stop (RFC 9110 §15.5.11,
/// Standard Webhooks).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gone {
    /// It is an answer like others.
    #[default]
    Fail,
    /// Its host is paused until an operator resumes it, and the event waits.
    Pause,
}

/// Attempts of an event, counted by what came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Those that have begun; of an event in flight, the last one counts.
    pub begun: u16,
    /// Of those that have ended, the ones whose outcome is unknown. They are no failures of the receiver.
    pub unknown: u16,
}

impl Policy {
    /// Judges the outcome of an event's last attempt.
    #[must_use]
    pub fn judge(&self, attempts: Attempts, outcome: &Outcome, seed: u64) -> Decision {
        let failures = attempts.begun.saturating_sub(attempts.unknown);
        match outcome {
            _ if self.succeeds(outcome) => Decision::Deliver,
            _ if self.pauses(outcome) => Decision::Withdraw(Duration::ZERO),
            Outcome::Response { status, .. } if self.final_statuses.contains(status) => {
                self.fail(Failure::FinalStatus(*status))
            }
            Outcome::Unknown => self.judge_unknown(attempts.unknown.saturating_add(1), seed),
            Outcome::NotSent(why) => Decision::Withdraw(why.wait()),
            Outcome::Forbidden(_) => self.fail(Failure::Forbidden),
            _ if failures >= self.max_attempts => self.fail(Failure::Exhausted),
            Outcome::Response { .. } | Outcome::NoResponse(_) => {
                let asked = outcome.retry_after().min(self.retry_after_max);
                Decision::Retry(self.delays.after(failures, seed).max(asked))
            }
        }
    }

    /// Whether an outcome pauses its host.
    #[must_use]
    pub fn pauses(&self, outcome: &Outcome) -> bool {
        self.gone == Gone::Pause && matches!(outcome, Outcome::Response { status: GONE, .. }) && !self.is_success(GONE)
    }

    /// Whether the receiver took the event.
    #[must_use]
    pub fn succeeds(&self, outcome: &Outcome) -> bool {
        matches!(outcome, Outcome::Response { status, .. } if self.is_success(*status))
    }

    /// Whether a receiver takes the event by an answer of this status.
    #[must_use]
    pub fn is_success(&self, status: u16) -> bool {
        if self.success_statuses.is_empty() {
            (200..300).contains(&status)
        } else {
            self.success_statuses.contains(&status)
        }
    }

    fn fail(&self, failure: Failure) -> Decision {
        if self.hold { Decision::Hold(failure) } else { Decision::Fail(failure) }
    }

    /// The receiver did nothing wrong: there is no reason to let the entity wait. But an event that brings its worker down must
    /// end, and must not take others along again and again, which were in flight by chance: from the second time on, delays
    /// that grow and differ part it from them.
    fn judge_unknown(&self, unknown: u16, seed: u64) -> Decision {
        match unknown {
            unknown if unknown >= self.max_unknown => self.fail(Failure::OutcomeUnknown),
            0..=1 => Decision::Retry(Duration::ZERO),
            unknown => Decision::Retry(self.delays.after(unknown - 1, seed)),
        }
    }
}

/// By this status a receiver says that it wants no more events.
const GONE: u16 = 410;

/// Statuses whose `Retry-After` is meant for the next request (RFC 9110 §10.2.3, RFC 6585 §4).
fn may_ask_for_time(status: u16) -> bool {
    matches!(status, 429 | 503 | 300..=399)
}

#[cfg(test)]
mod tests {
    use super::super::guard::Guard;
    use super::*;
    use crate::domain::backoff::Backoff;

    fn policy() -> Policy {
        Policy {
            max_attempts: 5,
            max_unknown: 10,
            delays: Delays::Growing(Backoff {
                initial: Duration::from_secs(1),
                max: Duration::from_mins(1),
                factor: 2.0,
                jitter: 0.1,
            }),
            retry_after_max: Duration::from_hours(1),
            final_statuses: [410].into(),
            success_statuses: BTreeSet::new(),
            hold: false,
            gone: Gone::Fail,
        }
    }

    fn forbidden() -> Outcome {
        Outcome::Forbidden(Guard::default().judge([127, 0, 0, 1].into()).unwrap_err())
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
            (1, answer(503, Some(600)), retry(600)),
            (1, answer(503, Some(86_400)), retry(3_600)),
            (1, answer(307, Some(30)), retry(30)),
            (1, answer(500, Some(30)), retry(1)),
            (3, Outcome::NoResponse(NoResponse::Late(Duration::from_secs(5), Phase::Waiting)), retry(4)),
            (5, Outcome::NoResponse(NoResponse::Late(Duration::from_secs(5), Phase::Waiting)), exhausted),
            (1, Outcome::Unknown, retry(0)),
            (5, Outcome::Unknown, retry(0)),
            (1, forbidden(), Decision::Fail(Failure::Forbidden)),
            (5, Outcome::NotSent(NotSent::NotAllowed), Decision::Withdraw(Duration::ZERO)),
            (5, Outcome::NotSent(NotSent::Shortage(String::new())), Decision::Withdraw(Duration::from_secs(1))),
        ];
        for (begun, outcome, decision) in table {
            let attempts = Attempts { begun, unknown: 0 };
            assert_eq!(policy().judge(attempts, &outcome, 0), decision, "attempt {begun}, {outcome:?}");
        }
    }

    #[test]
    fn silence_is_told_apart_by_its_kind() {
        let late = |phase| NoResponse::Late(Duration::from_secs(5), phase);
        let table = [
            (
                late(Phase::Resolving),
                "timeout_resolving",
                "no answer within 5s: the host's name was still being resolved",
            ),
            (late(Phase::Connecting), "timeout_connecting", "no answer within 5s: there was no connection yet"),
            (late(Phase::Sending), "timeout_sending", "no answer within 5s: the request was still being sent"),
            (late(Phase::Waiting), "timeout_waiting", "no answer within 5s"),
            (NoResponse::Dns(": why".into()), "dns", "the host's name was not resolved: why"),
            (NoResponse::Connect(": why".into()), "connect", "no connection: why"),
            (NoResponse::Tls(": why".into()), "tls", "no connection by TLS: why"),
            (NoResponse::Proxy(": why".into()), "proxy", "no connection through the proxy: why"),
            (NoResponse::Closed(": why".into()), "closed", "no answer, the connection was closed: why"),
            (NoResponse::Protocol(": why".into()), "protocol", "no answer that is HTTP: why"),
            (NoResponse::Broken(": why".into()), "other", "no answer: why"),
        ];
        for (kind, code, sentence) in table {
            assert_eq!((kind.code(), kind.to_string().as_str()), (code, sentence));
        }
    }

    #[test]
    fn unknown_outcomes_are_counted_apart_from_failures() {
        let retry = |seconds| Decision::Retry(Duration::from_secs(seconds));
        let (failed, unknown) = (answer(500, None), Outcome::Unknown);
        // (begun, of unknown outcome before, this one's outcome, decision)
        let table = [
            (6, 5, &failed, retry(1)),
            (9, 5, &failed, retry(8)),
            (10, 5, &failed, Decision::Fail(Failure::Exhausted)),
            (9, 9, &answer(200, None), Decision::Deliver),
            (2, 1, &unknown, retry(1)),
            (4, 3, &unknown, retry(4)),
            (9, 8, &unknown, retry(60)),
            (10, 9, &unknown, Decision::Fail(Failure::OutcomeUnknown)),
            (14, 9, &Outcome::NotSent(NotSent::NotAllowed), Decision::Withdraw(Duration::ZERO)),
        ];
        for (begun, unknown, outcome, decision) in table {
            let decided = policy().judge(Attempts { begun, unknown }, outcome, 0);
            assert_eq!(decided, decision, "{begun} begun, {unknown} unknown, {outcome:?}");
        }
    }

    #[test]
    fn what_failed_is_put_on_hold_where_that_is_asked_for() {
        let policy = Policy { hold: true, ..policy() };
        let judged = policy.judge(Attempts { begun: 5, unknown: 0 }, &answer(500, None), 0);
        assert_eq!(judged, Decision::Hold(Failure::Exhausted));
        assert_eq!(judged.state(), State::Failed);
        assert_eq!(judged.failure(), Decision::Fail(Failure::Exhausted).failure());
    }

    #[test]
    fn failures_have_names_that_programs_rely_on() {
        let all = [Failure::Exhausted, Failure::FinalStatus(410), Failure::OutcomeUnknown, Failure::Forbidden];
        assert_eq!(all.map(Failure::code), Failure::CODES);
        assert_eq!(Failure::CODES, ["exhausted", "final_status", "outcome_unknown", "forbidden_destination"]);
    }
}
