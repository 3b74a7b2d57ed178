//! How fast a host answers, and what follows for what is begun ahead of the cap.

use std::time::Duration;

use super::{PATIENCE, WAITING_PER_HOST};

/// Attempts are begun ahead for as long as this: about two commits of a busy database.
const LEAD: Duration = Duration::from_millis(20);
/// The most attempts that are begun ahead, in multiples of the cap.
const LONGEST_LEAD: usize = 3;
/// The weight of the last attempt in the average is one divided by this.
const WEIGHT: u32 = 8;

/// The time that a host takes for an attempt: an exponentially weighted moving average. None as long as nobody knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace(Option<Duration>);

impl Pace {
    /// An attempt took this long.
    pub fn note(&mut self, took: Duration) {
        self.0 = Some(self.0.map_or(took, |pace| (pace * (WEIGHT - 1) + took) / WEIGHT));
    }

    /// How many attempts are begun ahead, with `cap` requests at a time: what the host takes within the lead.
    #[must_use]
    pub fn lead(self, cap: usize) -> usize {
        self.0.map_or(0, |pace| per(LEAD, pace, cap)).min(LONGEST_LEAD * cap)
    }

    /// Whether the host would take a whole queue within the patience: then newcomers may as well wait for it.
    #[must_use]
    pub fn is_fast(self, cap: usize) -> bool {
        self.0.is_some_and(|pace| per(PATIENCE, pace, cap) >= WAITING_PER_HOST)
    }
}

/// How many attempts of this pace `cap` connections take in a time.
fn per(time: Duration, pace: Duration, cap: usize) -> usize {
    let attempts = time.as_nanos() * cap as u128 / pace.as_nanos().max(1);
    usize::try_from(attempts).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(millis: u64) -> Pace {
        let mut pace = Pace::default();
        pace.note(Duration::from_millis(millis));
        pace
    }

    #[test]
    fn the_lead_is_what_a_host_takes_in_a_commit_or_two() {
        // (milliseconds for an attempt, cap, begun ahead)
        let table = [(1, 50, 150), (10, 50, 100), (100, 50, 10), (1_000, 50, 1), (5_000, 50, 0), (10, 1, 2), (1, 0, 0)];
        for (millis, cap, lead) in table {
            assert_eq!(pace(millis).lead(cap), lead, "{millis} ms, {cap} at a time");
        }
        assert_eq!(Pace::default().lead(50), 0, "nothing is known");
    }

    #[test]
    fn a_host_is_fast_if_its_queue_would_be_empty_soon() {
        assert!(pace(1).is_fast(50) && pace(48).is_fast(50) && !pace(49).is_fast(50));
        assert!(!Pace::default().is_fast(50) && !pace(1).is_fast(0));
    }

    #[test]
    fn one_slow_answer_is_not_forgotten_at_once() {
        let mut pace = pace(8);
        pace.note(Duration::from_secs(5));
        assert!(pace.lead(50) <= 1 && !pace.is_fast(50));
        for _ in 0..50 {
            pace.note(Duration::from_millis(8));
        }
        assert!(pace.is_fast(50));
    }
}
