//! The promises, held against what was seen. Every violation names the event, the two moments and the trace.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::history::{Down, History, Hostile, Request, Trouble};
use super::load::{Answer, Load, Message};

/// The settings of the workers that the promises speak of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Promises {
    /// Requests at a time to one host, over all workers.
    pub host_connections: u32,
    /// Attempts before an event is FAILED.
    pub max_attempts: u32,
    /// The delay after the first failure, in milliseconds.
    pub backoff_initial_ms: u64,
    /// The largest delay, in milliseconds.
    pub backoff_max_ms: u64,
    /// What each failure multiplies the delay by.
    pub backoff_factor: f64,
    /// The time for one attempt, in milliseconds.
    pub attempt_timeout_ms: u64,
}

impl Promises {
    /// The least delay after attempt number `attempt` (from 1).
    #[must_use]
    pub fn least_delay(&self, attempt: u32) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of a delay are small")]
        let (initial, most) = (self.backoff_initial_ms as f64, self.backoff_max_ms as f64);
        Duration::from_secs_f64((initial * self.backoff_factor.powi(exponent)).min(most) / 1_000.0)
    }

    /// The least time between an answer to attempt number `attempt` and the next one: `Retry-After` counts up to the
    /// largest delay.
    #[must_use]
    pub fn least_wait(&self, attempt: u32, answer: Answer) -> Duration {
        self.least_delay(attempt).max(answer.retry_after().min(Duration::from_millis(self.backoff_max_ms)))
    }
}

/// What is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Every confirmed event is delivered, or dead-lettered.
    NothingLost,
    /// Nothing is sent again after its success, unless a trouble left its outcome unknown.
    NothingSentTwice,
    /// No attempt for an event before the one in front of it is final.
    InOrder,
    /// One attempt at a time for an entity.
    NoOverlap,
    /// Never more requests at a time to a host than the cap.
    HostCap,
    /// As many attempts as the policy says, and none too early.
    AttemptsAndBackoff,
    /// Deliveries to a host that was down go on soon after it is back.
    GoesOn,
    /// Bodies arrive byte for byte.
    PayloadIntact,
    /// What failed for good, and what breaks the contract, is in the dead-letter exchange, whole; and nothing else.
    DeadLettersComplete,
}

impl Check {
    /// All checks, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::NothingLost,
        Self::NothingSentTwice,
        Self::InOrder,
        Self::NoOverlap,
        Self::HostCap,
        Self::AttemptsAndBackoff,
        Self::GoesOn,
        Self::PayloadIntact,
        Self::DeadLettersComplete,
    ];

    /// For people.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::NothingLost => "nothing lost",
            Self::NothingSentTwice => "nothing sent twice",
            Self::InOrder => "in order",
            Self::NoOverlap => "one at a time for an entity",
            Self::HostCap => "cap on a host",
            Self::AttemptsAndBackoff => "attempts and back-off",
            Self::GoesOn => "goes on when a host is back",
            Self::PayloadIntact => "payload intact",
            Self::DeadLettersComplete => "dead letters complete",
        }
    }
}

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Violation {
    /// Which one.
    pub check: Check,
    /// The event's idempotency key; none for a host.
    pub key: Option<String>,
    /// What happened, in words.
    pub what: String,
    /// Milliseconds since the run began: the earlier moment.
    pub earlier_ms: Option<u64>,
    /// Milliseconds since the run began: the later moment.
    pub later_ms: Option<u64>,
    /// The trace in which to look.
    pub trace_id: Option<String>,
}

/// What the checks found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Broken promises, by check.
    pub violations: Vec<Violation>,
    /// Events that were sent again after a success, as a trouble explains.
    pub explained: u64,
}

/// From an answer to its record, on a busy machine: so long before a trouble an answer may have been left unrecorded.
const UNRECORDED: Duration = Duration::from_secs(2);
/// From a worker's last word on a connection to the receiver's reading it: so long after a moment a request may begin that
/// was sent before.
const UNREAD: Duration = Duration::from_millis(200);
/// A retry may seem early by this much, because answers and requests take their time on the network.
const EARLY: Duration = Duration::from_millis(30);

/// Holds the history of a load against the promises.
#[must_use]
pub fn check(load: &Load, history: &History, promises: &Promises) -> Findings {
    let mut checker = Checker::new(load, history, promises);
    for index in 0..load.events.len() {
        checker.lost(index);
        checker.sent_twice(index);
        checker.attempts(index);
    }
    checker.order();
    checker.overlap();
    checker.host_cap();
    checker.goes_on();
    checker.payload();
    checker.dead_letters();
    checker.hostile();
    checker.findings
}

struct Checker<'a> {
    load: &'a Load,
    history: &'a History,
    promises: &'a Promises,
    /// The requests of each event, in the order of their beginning.
    requests: Vec<Vec<&'a Request>>,
    /// How often each event was dead-lettered.
    dead: HashMap<usize, usize>,
    findings: Findings,
}

impl<'a> Checker<'a> {
    fn new(load: &'a Load, history: &'a History, promises: &'a Promises) -> Self {
        let mut requests: Vec<Vec<&Request>> = vec![Vec::new(); load.events.len()];
        for request in &history.requests {
            requests[request.event].push(request);
        }
        for of_event in &mut requests {
            of_event.sort_by_key(|request| request.started);
        }
        let mut dead = HashMap::new();
        for index in history.dead_letters.iter().filter_map(|letter| letter.event) {
            *dead.entry(index).or_default() += 1;
        }
        Self { load, history, promises, requests, dead, findings: Findings::default() }
    }

    fn found(&mut self, check: Check, event: Option<usize>, what: String, at: [Option<&Request>; 2]) {
        let [earlier, later] = at;
        let moment = |request: Option<&Request>| request.map(|request| millis(request.started));
        self.findings.violations.push(Violation {
            check,
            key: event.map(|index| self.load.events[index].key.clone()),
            what,
            earlier_ms: moment(earlier),
            later_ms: moment(later),
            trace_id: later.or(earlier).map(|request| request.trace_id.clone()),
        });
    }

    fn succeeded(&self, index: usize) -> bool {
        self.requests[index].iter().any(|request| succeeds(request))
    }

    fn lost(&mut self, index: usize) {
        if self.history.cut_short {
            return;
        }
        if self.history.published[index].confirmed && !self.succeeded(index) && !self.dead.contains_key(&index) {
            let last = self.requests[index].last().copied();
            let tried = self.requests[index].len();
            let what = format!("confirmed, but neither delivered nor dead-lettered; {tried} attempts were seen");
            self.found(Check::NothingLost, Some(index), what, [last, None]);
        }
    }

    fn sent_twice(&mut self, index: usize) {
        let requests = self.requests[index].clone();
        for pair in requests.windows(2) {
            let (earlier, later) = (pair[0], pair[1]);
            if !succeeds(earlier) {
                continue;
            }
            if self.history.troubles.iter().any(|trouble| leaves_unknown(trouble, earlier)) {
                self.findings.explained += 1;
            } else {
                let what = "sent again after a 2xx, and no trouble explains it".to_owned();
                self.found(Check::NothingSentTwice, Some(index), what, [Some(earlier), Some(later)]);
            }
        }
    }

    /// Attempts whose outcome nobody knows count neither for the most nor for the back-off.
    fn attempts(&mut self, index: usize) {
        let requests = self.requests[index].clone();
        let Some(last) = requests.last().copied() else { return };
        let is_known =
            |request: &Request| !self.history.troubles.iter().any(|trouble| leaves_unknown(trouble, request));
        let known: Vec<bool> = requests.iter().map(|request| is_known(request)).collect();
        let quiet = self.history.troubles.is_empty();
        let most = self.promises.max_attempts;
        let counted: BTreeSet<u32> =
            requests.iter().zip(&known).filter(|(_, known)| **known).map(|(request, _)| request.attempt).collect();
        if (quiet && last.attempt > most) || u32::try_from(counted.len()).is_ok_and(|counted| counted > most) {
            let what = format!("attempt {} of {most}", last.attempt);
            self.found(Check::AttemptsAndBackoff, Some(index), what, [Some(last), None]);
        }
        let mut failures = 0;
        for (pair, known) in requests.windows(2).zip(known) {
            let (earlier, later) = (pair[0], pair[1]);
            if later.attempt == earlier.attempt && earlier.answer == Some(Answer::Reset) {
                // A connection that was closed without an answer had been kept, and may have been closed before: the request
                // is sent once more, as the same attempt.
                continue;
            }
            if later.attempt <= earlier.attempt {
                let what = format!("attempt {} follows attempt {}", later.attempt, earlier.attempt);
                self.found(Check::AttemptsAndBackoff, Some(index), what, [Some(earlier), Some(later)]);
            }
            let (Some(answer), Some(ended)) = (earlier.answer, earlier.ended) else { continue };
            if !known || answer.succeeds() {
                continue;
            }
            failures += 1;
            let least = self.promises.least_wait(failures, answer);
            let waited = later.started.saturating_sub(ended);
            if waited + EARLY < least {
                let what = format!("tried again after {waited:?}; the back-off is {least:?} at least");
                self.found(Check::AttemptsAndBackoff, Some(index), what, [Some(earlier), Some(later)]);
            }
        }
    }

    /// Events of each entity in the order that has to be kept: by number, or as they were published, if that is the order
    /// in which they came to the workers.
    fn order(&mut self) {
        let mut lines: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        for (index, event) in self.load.events.iter().enumerate() {
            if !self.requests[index].is_empty() {
                lines.entry(event.entity).or_default().push(index);
            }
        }
        for line in lines.into_values() {
            let numbered = self.load.events[line[0]].numbered;
            let mut line = line;
            if !numbered && self.may_have_arrived_otherwise(&line) {
                // What began first is first.
                line.sort_by_key(|index| self.requests[*index][0].started);
            }
            for pair in line.windows(2) {
                self.in_order(pair[0], pair[1]);
            }
        }
    }

    /// Whether events without a number may have come to the workers in another order than that of their first publish:
    /// one was published again; or the producer lost its connection while one was perhaps still in a queue. The broker
    /// may have restarted then, and dealt the entity to another queue.
    fn may_have_arrived_otherwise(&self, line: &[usize]) -> bool {
        let published = &self.history.published;
        let overtaken = |pair: &[usize]| {
            let (before, after) = (published[pair[0]], published[pair[1]]);
            let begun = self.requests[pair[0]][0].started;
            before.connection != after.connection && after.first.is_none_or(|first| first < begun)
        };
        line.iter().any(|index| published[*index].again) || line.windows(2).any(overtaken)
    }

    fn in_order(&mut self, before: usize, after: usize) {
        let (Some(last), Some(first)) = (self.requests[before].last().copied(), self.requests[after].first().copied())
        else {
            return;
        };
        // What comes again although it was delivered is another check's concern.
        let until = self.requests[before].iter().copied().find(|request| succeeds(request)).unwrap_or(last);
        // The dead letter of one that has failed for good may be under way.
        let may_be_final = self.history.cut_short && last.attempt >= self.promises.max_attempts;
        let is_final = succeeds(until) || self.dead.contains_key(&before) || may_be_final;
        if first.started < until.started || !is_final {
            let key = &self.load.events[before].key;
            let what = format!("begun before {key}, which comes first, was final");
            self.found(Check::InOrder, Some(after), what, [Some(first), Some(until)]);
        }
    }

    fn overlap(&mut self) {
        let mut open: HashMap<u32, &Request> = HashMap::new();
        let mut requests: Vec<&Request> = self.history.requests.iter().collect();
        requests.sort_by_key(|request| request.started);
        for request in requests {
            let entity = self.load.events[request.event].entity;
            if let Some(earlier) = open.insert(entity, request)
                && earlier.answer.is_some()
                && earlier.ended.is_none_or(|ended| ended > request.started)
            {
                let key = &self.load.events[earlier.event].key;
                let what = format!("begun while attempt {} for {key} was open", earlier.attempt);
                self.found(Check::NoOverlap, Some(request.event), what, [Some(earlier), Some(request)]);
            }
        }
    }

    fn host_cap(&mut self) {
        let mut moments: BTreeMap<u16, Vec<(Duration, i32)>> = BTreeMap::new();
        for request in &self.history.requests {
            let of_host = moments.entry(self.load.events[request.event].host).or_default();
            of_host.push((request.started, 1));
            of_host.extend(request.ended.map(|ended| (ended, -1)));
        }
        for (host, mut of_host) in moments {
            // Ends come first.
            of_host.sort_unstable();
            let (mut open, mut most) = (0, (0, Duration::ZERO));
            for (moment, change) in of_host {
                open += change;
                most = most.max((open, moment));
            }
            if most.0 > i32::try_from(self.promises.host_connections).unwrap_or(i32::MAX) {
                let cap = self.promises.host_connections;
                self.findings.violations.push(Violation {
                    check: Check::HostCap,
                    key: None,
                    what: format!("{} requests at a time to host {host}; {cap} are allowed", most.0),
                    earlier_ms: Some(millis(most.1)),
                    later_ms: None,
                    trace_id: None,
                });
            }
        }
    }

    /// A host that was down has a gate: it is probed, and found to be back.
    fn goes_on(&mut self) {
        let downs: Vec<(&Trouble, Down)> =
            self.history.troubles.iter().filter_map(|trouble| Some((trouble, trouble.down?))).collect();
        let first = |host: u16, from: Duration| {
            let to_it = self.history.requests.iter().filter(|request| self.load.events[request.event].host == host);
            to_it.filter(|request| request.started >= from).min_by_key(|request| request.started)
        };
        let mut found = Vec::new();
        // Since when each host has not been seen to be up.
        let mut since: HashMap<u16, Duration> = HashMap::new();
        for (trouble, Down { host, goes_on_within }) in &downs {
            let since = since.entry(*host).or_insert(trouble.from);
            let within = *goes_on_within + trouble.from.saturating_sub(*since);
            let is_again = |(other, down): &&(&Trouble, Down)| down.host == *host && other.from > trouble.from;
            let again = downs.iter().find(is_again).map(|(other, _)| other.from);
            let first = first(*host, trouble.to);
            let Some(first) = first.filter(|first| again.is_none_or(|again| first.started < again)) else {
                // It was down again before it was found to be back, or nothing was to be sent.
                continue;
            };
            since_is_over(since, again);
            if first.started > trouble.to + within {
                found.push((first, first.started.saturating_sub(trouble.to), within, *host));
            }
        }
        for (first, waited, within, host) in found {
            let what =
                format!("the first request to host {host} came {waited:?} after it was back; {within:?} are allowed");
            self.found(Check::GoesOn, Some(first.event), what, [Some(first), None]);
        }
    }

    fn payload(&mut self) {
        for request in self.history.requests.iter().filter(|request| !request.intact) {
            let what = format!("the body of attempt {} is not the one that was published", request.attempt);
            self.found(Check::PayloadIntact, Some(request.event), what, [Some(request), None]);
        }
    }

    fn dead_letters(&mut self) {
        for letter in &self.history.dead_letters {
            let Some(index) = letter.event else { continue };
            let last = self.requests[index].last().copied();
            if self.succeeded(index) && letter.reason == "exhausted" {
                self.found(Check::DeadLettersComplete, Some(index), "dead-lettered after a 2xx".into(), [last, None]);
            } else if letter.reason != "exhausted" {
                let what = format!("dead-lettered for {:?}, though it keeps the contract", letter.reason);
                self.found(Check::DeadLettersComplete, Some(index), what, [last, None]);
            } else if let Some(attempts) = letter.attempts.filter(|attempts| *attempts < self.promises.max_attempts) {
                let what = format!("FAILED after {attempts} attempts of {}", self.promises.max_attempts);
                self.found(Check::AttemptsAndBackoff, Some(index), what, [last, None]);
            } else if !letter.complete {
                let what = "its dead letter lacks its body, detail or history".to_owned();
                self.found(Check::DeadLettersComplete, Some(index), what, [last, None]);
            }
        }
        let quiet = self.history.troubles.is_empty();
        let repeated: Vec<usize> =
            self.dead.iter().filter(|(_, count)| quiet && **count > 1).map(|(i, _)| *i).collect();
        for index in repeated {
            self.found(Check::DeadLettersComplete, Some(index), "dead-lettered more than once".into(), [None, None]);
        }
        for message in &self.load.messages {
            let Message::Poison(number) = message else { continue };
            let found = self.history.dead_letters.iter().find(|letter| letter.poison == Some(*number));
            let what = match found {
                None if self.history.cut_short => continue,
                None => format!("message {number} breaks the contract, and is not in the dead-letter exchange"),
                Some(letter) if !letter.complete => format!("the dead letter of message {number} lacks body or detail"),
                Some(_) => continue,
            };
            self.found(Check::DeadLettersComplete, None, what, [None, None]);
        }
    }

    /// Each comes to one end, once: it is delivered, or in the dead-letter exchange. Its letter may have come empty.
    fn hostile(&mut self) {
        let quiet = self.history.troubles.is_empty();
        for (number, hostile) in self.history.hostile.iter().enumerate() {
            let Hostile { kind, honest, published, confirmed, delivered, letters, .. } = *hostile;
            let broken = if confirmed && delivered + letters == 0 && !self.history.cut_short {
                (Check::NothingLost, "is confirmed, but neither delivered nor dead-lettered")
            } else if quiet && delivered > 1 {
                (Check::NothingSentTwice, "was delivered more than once")
            } else if quiet && letters > published {
                (Check::DeadLettersComplete, "was dead-lettered more than once")
            } else if quiet && letters > 0 && (delivered > 0 || honest) {
                (Check::DeadLettersComplete, "was dead-lettered, though it was delivered or should be")
            } else {
                continue;
            };
            self.found(broken.0, None, format!("hostile message {number} ({kind}) {}", broken.1), [None, None]);
        }
    }
}

/// A host was found to be back: the next time that it is down counts anew.
fn since_is_over(since: &mut Duration, again: Option<Duration>) {
    *since = again.unwrap_or(*since);
}

fn succeeds(request: &Request) -> bool {
    request.answer.is_some_and(Answer::succeeds)
}

/// Whether a trouble may have kept an attempt's outcome from its record.
fn leaves_unknown(trouble: &Trouble, attempt: &Request) -> bool {
    let Some(until) = trouble.doubt_until else { return false };
    let ended = attempt.ended.unwrap_or(until);
    attempt.started <= until + UNREAD && trouble.from <= ended + UNRECORDED
}

fn millis(moment: Duration) -> u64 {
    u64::try_from(moment.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests;
