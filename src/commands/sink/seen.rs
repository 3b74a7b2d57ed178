//! Which keys came how often. It remembers the newest keys only, so that its memory is bounded.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, RandomState};

/// Keys that are remembered: at most about 100 MB.
pub(super) const REMEMBERED: usize = 1_000_000;

#[derive(Clone, Copy, Default)]
struct Times {
    arrivals: u32,
    succeeded: bool,
}

/// The keys, by their hashes: two of a million keys are taken for one with a probability of three in a hundred million.
pub(super) struct Seen {
    limit: usize,
    hasher: RandomState,
    times: HashMap<u64, Times>,
    oldest_first: VecDeque<u64>,
    distinct: u64,
}

impl Seen {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, hasher: RandomState::new(), times: HashMap::new(), oldest_first: VecDeque::new(), distinct: 0 }
    }

    /// One more arrival: which one it is for its key, from 1, and whether the key has succeeded before.
    pub(super) fn arrive(&mut self, key: &str) -> (u32, bool) {
        let hash = self.hasher.hash_one(key);
        if !self.times.contains_key(&hash) {
            self.distinct += 1;
            self.oldest_first.push_back(hash);
            if self.oldest_first.len() > self.limit
                && let Some(oldest) = self.oldest_first.pop_front()
            {
                self.times.remove(&oldest);
            }
        }
        let times = self.times.entry(hash).or_default();
        times.arrivals = times.arrivals.saturating_add(1);
        (times.arrivals, times.succeeded)
    }

    /// The key was answered with a 2xx.
    pub(super) fn succeed(&mut self, key: &str) {
        if let Some(times) = self.times.get_mut(&self.hasher.hash_one(key)) {
            times.succeeded = true;
        }
    }

    /// How many keys came; and whether that is exact, because none was forgotten.
    pub(super) fn distinct(&self) -> (u64, bool) {
        (self.distinct, self.distinct <= self.limit as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_counted_by_key_and_a_success_is_remembered() {
        let mut seen = Seen::new(10);
        assert_eq!(seen.arrive("a"), (1, false));
        assert_eq!(seen.arrive("b"), (1, false));
        seen.succeed("a");
        assert_eq!(seen.arrive("a"), (2, true));
        assert_eq!(seen.arrive("b"), (2, false));
        assert_eq!(seen.distinct(), (2, true));
    }

    #[test]
    fn the_oldest_key_is_forgotten_over_the_limit() {
        let mut seen = Seen::new(2);
        for key in ["a", "b", "c"] {
            seen.arrive(key);
        }
        assert_eq!(seen.arrive("c"), (2, false));
        assert_eq!(seen.arrive("a"), (1, false));
        assert_eq!(seen.distinct(), (4, false));
        assert_eq!(seen.times.len(), 2);
    }
}
