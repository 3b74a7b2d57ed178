//! The gate of a host: what shuts it, and how it opens again.
//!
//! A host that is down must not burn its events. When attempts fail in a row for reasons that are the host's, its gate shuts:
//! its events wait, in order, and spend no attempts. One event at a time probes, later and later; when the host answers, the
//! gate opens.
//!
//! What is the host's, and not an event's, is told apart so:
//!
//! | an attempt ends with | it is a sign that the host is |
//! |---|---|
//! | a name that is not resolved, no connection, no TLS, no way through the proxy | [unreachable](Sign::Unreachable): no event can be the cause |
//! | a connection that breaks, no answer in time, no HTTP, 502, 503, 504, 429 with a long `Retry-After` | [unwell](Sign::Unwell): or the event is one that it can't bear |
//! | any other answer below 500 | [well](Sign::Well): it ends the row |
//! | 500 and other answers | [neither](Sign::Unclear) |
//! | shortages of our own | nothing |
//!
//! Signs that an event may be the cause of count only while nothing shows that others fare better: an event that failed before
//! the host's last good answer counts no more, nor does an attempt that was under way when that came; they have to be of two
//! events at least, and nothing else may have come from the host for a second: many events that it can't bear may come at once.

use std::time::Duration;

use super::event::EventId;
use super::verdict::{NoResponse, Outcome, Phase};

/// A `Retry-After` of this much says that a host wants no requests at all.
const LONG: Duration = Duration::from_secs(10);
/// A row of failures that events may be the cause of has to last for so long.
const LASTS: Duration = Duration::from_secs(1);
/// While a host opens, so many failures shut it again.
const AGAIN: u16 = 2;
/// Events of a row that are remembered.
const REMEMBERED: usize = 64;
/// A claim on a probe is void after the attempt's time limit and this: its commits, and the answer's.
const CLAIM_SLACK: Duration = Duration::from_secs(10);
/// What each failed probe multiplies the pause by.
const FACTOR: u32 = 2;
/// Gates of many hosts that shut together open apart: the pause is longer by up to one part of so many.
const SPREAD: u32 = 32;

/// The settings of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatePolicy {
    /// Failures in a row that shut it; 0 if nothing does.
    pub failures: u16,
    /// The pause before the first probe.
    pub probe_initial: Duration,
    /// The longest pause between two probes.
    pub probe_max: Duration,
}

impl Default for GatePolicy {
    fn default() -> Self {
        let (probe_initial, probe_max) = (Duration::from_secs(1), Duration::from_mins(1));
        Self { failures: 5, probe_initial, probe_max }
    }
}

impl GatePolicy {
    /// The pause after so many failed probes.
    fn pause(&self, probes: u16, seed: u64) -> Duration {
        let growth = FACTOR.checked_pow(probes.into()).unwrap_or(u32::MAX);
        let pause = self.probe_initial.checked_mul(growth).unwrap_or(self.probe_max).min(self.probe_max);
        let part = u32::try_from(seed % 1_024).unwrap_or(0);
        pause + pause / SPREAD * part / 1_024
    }
}

/// What the end of an attempt says of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It is there, and answers.
    Well,
    /// It can't be reached.
    Unreachable,
    /// It fails, unless the event is the cause.
    Unwell,
    /// It answers, and neither well nor as one that is down. A host that is probed has to do better.
    Unclear,
    /// Nothing.
    Nothing,
}

impl Sign {
    /// Of an outcome; `is_success` says whether a status is one.
    #[must_use]
    pub fn of(outcome: &Outcome, is_success: impl Fn(u16) -> bool) -> Self {
        match outcome {
            Outcome::Response { status, .. } if is_success(*status) => Self::Well,
            Outcome::Response { status: 502..=504, .. } => Self::Unwell,
            Outcome::Response { status: 429, retry_after, .. } => match retry_after {
                Some(asked) if *asked >= LONG => Self::Unwell,
                _ => Self::Unclear,
            },
            Outcome::Response { status, .. } if *status < 500 => Self::Well,
            Outcome::NoResponse(silence) => Self::of_silence(silence),
            Outcome::Response { .. } => Self::Unclear,
            Outcome::Unknown | Outcome::NotSent(_) | Outcome::Forbidden(_) => Self::Nothing,
        }
    }

    fn of_silence(silence: &NoResponse) -> Self {
        match silence {
            NoResponse::Dns(_) | NoResponse::Connect(_) | NoResponse::Tls(_) | NoResponse::Proxy(_) => {
                Self::Unreachable
            }
            NoResponse::Late(_, Phase::Resolving | Phase::Connecting) => Self::Unreachable,
            NoResponse::Late(_, Phase::Sending | Phase::Waiting)
            | NoResponse::Closed(_)
            | NoResponse::Protocol(_)
            | NoResponse::Broken(_) => Self::Unwell,
        }
    }
}

/// Failures of a host in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    unreachable: u32,
    unwell: u32,
    /// Whose they are; a few are remembered.
    events: Vec<EventId>,
    /// When the first of these attempts began.
    began: Option<Duration>,
    /// When the last one came.
    pub last: Duration,
}

/// An attempt that has failed.
#[derive(Clone, Copy, Debug)]
pub struct Failed {
    /// What it says.
    pub sign: Sign,
    /// Whose it is.
    pub id: EventId,
    /// The event has failed before.
    pub before: bool,
    /// How long it took.
    pub took: Duration,
}

impl Row {
    /// One more failure.
    pub fn note(&mut self, Failed { sign, id, before, took }: Failed, now: Duration) {
        self.last = now;
        let is_known = self.events.contains(&id);
        match sign {
            Sign::Unreachable => self.unreachable += 1,
            // It failed when the host was well.
            Sign::Unwell if before && !is_known => return,
            Sign::Unwell => self.unwell += 1,
            Sign::Well | Sign::Unclear | Sign::Nothing => return,
        }
        let began = now.saturating_sub(took);
        self.began = Some(self.began.map_or(began, |first| first.min(began)));
        if !is_known && self.events.len() < REMEMBERED {
            self.events.push(id);
        }
    }

    /// Whether it is long enough to shut the gate of a host that was well.
    #[must_use]
    pub fn shuts(&self, failures: u16) -> bool {
        self.has(failures, LASTS)
    }

    /// Whether it is long enough to shut the gate of a host again that is just being opened.
    #[must_use]
    pub fn shuts_again(&self, failures: u16) -> bool {
        self.has(failures.min(AGAIN), Duration::ZERO)
    }

    fn has(&self, failures: u16, lasting: Duration) -> bool {
        let least = u32::from(failures);
        let lasts = self.began.is_some_and(|began| self.last.saturating_sub(began) >= lasting);
        let is_the_hosts = self.events.len() >= 2 && lasts;
        least > 0 && (self.unreachable >= least || (is_the_hosts && self.unreachable + self.unwell >= least))
    }
}

/// Where a gate stands; one that there is nothing to say about is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GateState {
    /// Its events wait. Left by [`Change::Claim`] at its time, and by [`Change::Passed`].
    Shut,
    /// One of them is on its way. Left by the end of that attempt, or with its time.
    Probing,
    /// It has opened lately. Forgotten with its time.
    Open,
}

impl GateState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Shut, Self::Probing, Self::Open];

    /// The stored name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Shut => "shut",
            Self::Probing => "probing",
            Self::Open => "open",
        }
    }

    /// By its stored name.
    #[must_use]
    pub fn read_back(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// What is recorded of a gate. Times are of the database's clock, since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Where it stands.
    pub state: GateState,
    /// Probes that have failed, one after the other.
    pub probes: u16,
    /// Since when it has not been open, or was not when it opened last.
    pub since: Duration,
    /// When it may be probed; when a probe is void; when it is forgotten.
    pub next: Duration,
    /// What was wrong last.
    pub reason: String,
}

/// What may happen to a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The row of failures is long enough: why, and how long the host wants to be left alone, if it says so.
    Shut(String, Duration),
    /// A worker has an event that may probe, for which an attempt has this much time.
    Claim(Duration),
    /// The host has answered.
    Passed,
    /// The probe has failed: why, and how long the host wants to be left alone, if it says so.
    Failed(String, Duration),
    /// There was no probe.
    Released,
    /// The host wants no more events: it is paused, and its gate stays as it is, or is not probed any more.
    Gone,
    /// It bears so many requests at a time, over all workers, and no more: its gate stays as it is.
    Bears(usize),
}

impl Gate {
    /// What is recorded after a change. None if it changes nothing.
    #[must_use]
    pub fn after(
        before: Option<&Self>,
        change: &Change,
        policy: &GatePolicy,
        seed: u64,
        now: Duration,
    ) -> Option<Self> {
        let shut = |probes: u16, since: Duration, (reason, asked): (&String, Duration)| {
            // One that asks for hours may ask for one of its tenants only.
            let next = now + policy.pause(probes, seed).max(asked.min(policy.probe_max));
            Some(Self { state: GateState::Shut, probes, since, next, reason: reason.clone() })
        };
        let Some(gate) = before else {
            return match change {
                Change::Shut(reason, asked) => shut(0, now, (reason, *asked)),
                Change::Claim(_)
                | Change::Passed
                | Change::Failed(..)
                | Change::Released
                | Change::Gone
                | Change::Bears(_) => None,
            };
        };
        match (gate.state, change) {
            // A host that comes and goes is not believed at once.
            (GateState::Open, Change::Shut(reason, asked)) => {
                let probes = if now < gate.next { gate.probes } else { 0 };
                shut(probes, now, (reason, *asked))
            }
            (GateState::Shut | GateState::Probing, Change::Claim(timeout)) if gate.next <= now => {
                let next = now + *timeout + CLAIM_SLACK;
                Some(Self { state: GateState::Probing, next, ..gate.clone() })
            }
            (GateState::Shut | GateState::Probing, Change::Passed) => {
                let next = now + policy.probe_max * 2;
                Some(Self { state: GateState::Open, next, ..gate.clone() })
            }
            (GateState::Probing, Change::Failed(reason, asked)) => {
                shut(gate.probes.saturating_add(1), gate.since, (reason, *asked))
            }
            (GateState::Probing, Change::Released | Change::Gone) => {
                let next = now + policy.pause(gate.probes, seed);
                Some(Self { state: GateState::Shut, next, ..gate.clone() })
            }
            (_, Change::Bears(_) | Change::Claim(_))
            | (GateState::Shut | GateState::Open, Change::Failed(..) | Change::Released | Change::Gone)
            | (GateState::Shut | GateState::Probing, Change::Shut(..))
            | (GateState::Open, Change::Passed) => None,
        }
    }
}

#[cfg(test)]
mod tests;
