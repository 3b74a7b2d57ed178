//! Time in the simulator: what happens when, and the clocks of workers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// What is to happen, in the order of time; of two things at one time, the one first that was entered first.
pub(super) struct Agenda<T> {
    entries: BinaryHeap<Reverse<Entry<T>>>,
    entered: u64,
}

struct Entry<T> {
    at: Duration,
    number: u64,
    what: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { entries: BinaryHeap::new(), entered: 0 }
    }
}

impl<T> Agenda<T> {
    /// Something happens at a time.
    pub(super) fn enter(&mut self, at: Duration, what: T) {
        self.entered += 1;
        self.entries.push(Reverse(Entry { at, number: self.entered, what }));
    }

    /// What happens next.
    pub(super) fn next(&mut self) -> Option<(Duration, T)> {
        self.entries.pop().map(|Reverse(entry)| (entry.at, entry.what))
    }
}

/// A worker's clock: nobody sets it, but it runs a little faster or slower than time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// It runs faster by this many parts in a million.
    pub(super) fast_ppm: i64,
    /// When its machine was started.
    pub(super) since: Duration,
    /// How long it stood still while its machine was suspended. A clock that does so is a fault of the program.
    pub(super) stood_still: Duration,
}

impl Clock {
    /// What it shows at a time.
    pub(super) fn shows(&self, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.since).saturating_sub(self.stood_still);
        Duration::from_micros(scale(passed, 1_000_000 + self.fast_ppm, 1_000_000))
    }

    /// How much time passes while it goes on by so much.
    pub(super) fn takes(&self, shown: Duration) -> Duration {
        // Rounded up: a moment that it is waited for has come when the wait is over.
        Duration::from_micros(scale(shown, 1_000_000, 1_000_000 + self.fast_ppm) + 1)
    }
}

fn scale(time: Duration, by: i64, of: i64) -> u64 {
    let scaled = time.as_micros() * u128::from(by.unsigned_abs()) / u128::from(of.unsigned_abs().max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}
