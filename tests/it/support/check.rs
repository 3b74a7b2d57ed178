//! What must hold for every recorded attempt, whatever the faults.

use std::collections::{BTreeMap, HashMap};

use super::Attempt;

/// Looks over the attempts of one or more receivers.
pub struct Check {
    /// By key, in the order of their beginning.
    by_key: HashMap<String, Vec<Attempt>>,
    max_attempts: u32,
    max_unknown: u32,
}

impl Check {
    pub fn new(attempts: Vec<Attempt>, max_attempts: u32) -> Self {
        Self::with_unknown(attempts, max_attempts, 0)
    }

    /// After crashes: so many attempts of an event may have an outcome that nobody knows, and don't count.
    pub fn with_unknown(mut attempts: Vec<Attempt>, max_attempts: u32, max_unknown: u32) -> Self {
        attempts.sort_by_key(|attempt| attempt.started);
        let mut by_key: HashMap<String, Vec<Attempt>> = HashMap::new();
        for attempt in attempts {
            by_key.entry(attempt.key.clone()).or_default().push(attempt);
        }
        let check = Self { by_key, max_attempts, max_unknown };
        check.attempts_of_a_key_follow_each_other();
        check
    }

    /// No attempt for an event before the one in front of it is final. `lines` has each entity's keys in their order.
    pub fn order(&self, lines: &BTreeMap<String, Vec<String>>) -> &Self {
        for (entity, keys) in lines {
            for pair in keys.windows(2) {
                let (Some(before), Some(after)) = (self.by_key.get(&pair[0]), self.by_key.get(&pair[1])) else {
                    continue;
                };
                self.in_order(entity, before.last().expect("an attempt"), &after[0]);
            }
        }
        self
    }

    /// Every key of `keys` was answered with 2xx.
    pub fn all_delivered<'a>(&self, keys: impl IntoIterator<Item = &'a String>) -> &Self {
        let lost: Vec<_> = keys.into_iter().filter(|key| !self.delivered(key)).take(10).collect();
        assert!(lost.is_empty(), "never delivered, among others: {lost:?}");
        self
    }

    /// Nothing is sent again after its success.
    pub fn nothing_resent(&self) -> &Self {
        let resent: Vec<_> = self.resent().into_iter().take(5).collect();
        assert!(resent.is_empty(), "sent again after a success: {resent:#?}");
        self
    }

    /// Attempts are counted 1, 2, 3…, as long as no crash comes between the record of an attempt and the attempt.
    pub fn numbers_without_holes(&self) -> &Self {
        for (key, attempts) in &self.by_key {
            let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.number).collect();
            let expected: Vec<_> = (1..).take(numbers.len()).collect();
            assert_eq!(numbers, expected, "the attempts of {key}");
        }
        self
    }

    /// The successful attempts that were followed by another one of the same event.
    pub fn resent(&self) -> Vec<&Attempt> {
        let pairs = self.by_key.values().flat_map(|attempts| attempts.windows(2));
        pairs.filter(|pair| pair[0].succeeded()).map(|pair| &pair[0]).collect()
    }

    fn delivered(&self, key: &str) -> bool {
        self.by_key.get(key).is_some_and(|attempts| attempts.iter().any(Attempt::succeeded))
    }

    /// One attempt at a time, each with a number of its own.
    fn attempts_of_a_key_follow_each_other(&self) {
        for (key, attempts) in &self.by_key {
            for pair in attempts.windows(2) {
                let (earlier, later) = (&pair[0], &pair[1]);
                assert!(earlier.number < later.number, "{key}: attempt numbers do not grow: {pair:#?}");
                assert!(ended_before(earlier, later), "{key}: attempts overlap: {pair:#?}");
            }
            let last = attempts.last().map_or(0, |attempt| attempt.number);
            let most = self.max_attempts + self.max_unknown;
            assert!(last <= most, "{key}: {last} attempts; {most} are allowed");
        }
    }

    fn in_order(&self, entity: &str, last: &Attempt, next: &Attempt) {
        let finished = last.succeeded() || last.number >= self.max_attempts;
        let in_order = finished && last.started < next.started && ended_before(last, next);
        assert!(in_order, "{entity}: {} began before {} was final: {last:#?} {next:#?}", next.key, last.key);
    }
}

/// An attempt that the receiver did not answer was over for its sender before the receiver heard of it.
fn ended_before(earlier: &Attempt, later: &Attempt) -> bool {
    earlier.status.is_none() || earlier.ended.is_some_and(|ended| ended <= later.started)
}
