//! A limit that finds itself: how many requests at a time a host bears, over all workers.
//!
//! Additive increase, multiplicative decrease (Chiu and Jain, 1989): while a host answers well and the limit is in use, it
//! grows by one a second, or doubles each second until it was cut for the first time; it is cut when the host says that it has
//! too much (429, 503), and when its answers take much longer than they did. What was begun before a cut says nothing about
//! the limit after it. A cut is told to the other workers, and holds for all of them.

use std::time::Duration;

/// Requests at a time with which a host begins of which nothing is known: what its answers take at best shows itself.
const FIRST: f64 = 1.0;
/// What is left of the limit when the host says that it has too much.
const REFUSED: f64 = 0.5;
/// What is left when its answers take longer.
const SLOWER: f64 = 0.8;
/// Answers take longer if they take so many times what they took, and [`MUCH`] more.
const TIMES: u32 = 2;
/// See [`TIMES`].
const MUCH: Duration = Duration::from_millis(20);
/// The weight of the last answer in the average is one divided by this.
const WEIGHT: u32 = 8;
/// What answers took at best is forgotten by so much in a second.
const FORGETS: f64 = 0.01;
/// Once cut for the time that answers take, a limit is not cut for that again for so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// What an answer says of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The host has answered well.
    Well,
    /// It has too much.
    TooMuch,
    /// Nothing.
    Nothing,
}

/// The limit of one host.
#[derive(Clone, Copy, Debug)]
pub struct Adaptive {
    /// Requests at a time, over all workers; at least 1.
    limit: f64,
    /// It has never been cut.
    is_new: bool,
    /// What answers take, on average and at best.
    takes: Option<(Duration, Duration)>,
    cut: Duration,
    /// When it was last in use.
    pub used: Duration,
}

/// The end of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// What it says.
    pub hint: Hint,
    /// How long it took.
    pub took: Duration,
    /// All that the worker might have open was open.
    pub in_use: bool,
    /// The time.
    pub now: Duration,
}

impl Adaptive {
    /// For a host of which nothing is known.
    #[must_use]
    pub fn new(now: Duration) -> Self {
        Self { limit: FIRST, is_new: true, takes: None, cut: Duration::ZERO, used: now }
    }

    /// The limit in whole requests, over all workers.
    #[must_use]
    pub fn limit(&self) -> usize {
        // At least 1, and at most the cap, which is in the thousands.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded")]
        let limit = self.limit as usize;
        limit
    }

    /// An attempt has ended, at a host that may have `cap` requests. Gives the limit if it was cut.
    pub fn note(&mut self, answer: Answer, cap: usize) -> Option<usize> {
        let Answer { hint, took, in_use, now } = answer;
        let since = now.saturating_sub(self.used).min(Duration::from_secs(1)).as_secs_f64();
        self.used = now;
        // It was begun before the limit was what it is.
        if now.saturating_sub(took) < self.cut {
            return None;
        }
        match hint {
            Hint::TooMuch => {
                let before = self.limit();
                return Some(self.cut_to(self.limit * REFUSED, now)).filter(|cut| *cut < before);
            }
            Hint::Nothing => return None,
            Hint::Well => {}
        }
        if self.takes_longer(took, since) && now.saturating_sub(self.cut) >= PATIENCE {
            self.takes = None;
            return Some(self.cut_to(self.limit * SLOWER, now));
        }
        if in_use {
            let more = if self.is_new { self.limit * since * std::f64::consts::LN_2 } else { since };
            self.limit = (self.limit + more).min(as_float(cap).max(1.0));
        }
        None
    }

    /// Another worker has cut the limit.
    pub fn heed(&mut self, limit: usize, now: Duration) {
        if as_float(limit) < self.limit {
            self.cut_to(as_float(limit), now);
        }
    }

    fn cut_to(&mut self, limit: f64, now: Duration) -> usize {
        (self.limit, self.is_new, self.cut) = (limit.max(1.0), false, now);
        self.limit()
    }

    fn takes_longer(&mut self, took: Duration, since: f64) -> bool {
        let Some((average, best)) = self.takes else {
            self.takes = Some((took, took));
            return false;
        };
        let average = (average * (WEIGHT - 1) + took) / WEIGHT;
        let best = best.mul_f64(1.0 + FORGETS * since).min(average);
        self.takes = Some((average, best));
        average > best * TIMES + MUCH
    }
}

/// A small number.
#[expect(clippy::cast_precision_loss, reason = "caps are in the thousands")]
fn as_float(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: usize = 50;

    /// A host that bears so many requests at a time for a minute: the limits that were found in its second half, and the
    /// share of requests that it refused.
    fn found(bears: usize, takes: Duration, refuses: bool) -> (Vec<usize>, f64) {
        let (mut now, mut limits) = (Duration::from_secs(1), Vec::new());
        let (mut adaptive, mut refused, mut all) = (Adaptive::new(now), 0.0, 0.0);
        while now < Duration::from_mins(1) {
            let open = adaptive.limit();
            // Beyond what it bears, it refuses, or all take longer.
            let took = if open > bears && !refuses { takes * 4 } else { takes };
            now += took;
            for number in 0..open {
                let hint = if number >= bears && refuses { Hint::TooMuch } else { Hint::Well };
                (all, refused) = (all + 1.0, refused + f64::from(u8::from(hint == Hint::TooMuch)));
                adaptive.note(Answer { hint, took, in_use: true, now }, CAP);
            }
            if now > Duration::from_secs(30) {
                limits.push(adaptive.limit());
            }
        }
        (limits, refused / all)
    }

    #[test]
    fn a_limit_is_found_below_what_a_host_refuses() {
        for bears in [1, 3, 10, 40] {
            let (limits, refused) = found(bears, Duration::from_millis(50), true);
            let most = limits.iter().max().copied().unwrap_or(0);
            assert!(most <= bears + 1, "bears {bears}: {most}");
            let average = limits.iter().sum::<usize>() / limits.len();
            assert!(average * 2 >= bears, "bears {bears}: {average} on average");
            assert!(refused < 0.05, "bears {bears}: {refused} refused");
        }
    }

    #[test]
    fn a_limit_is_found_below_what_makes_a_host_slower() {
        for bears in [3, 10, 40] {
            let (limits, _) = found(bears, Duration::from_millis(50), false);
            let most = limits.iter().max().copied().unwrap_or(0);
            assert!(most <= bears * 3 / 2 + 2, "bears {bears}: {most}");
        }
    }

    #[test]
    fn a_host_that_bears_everything_gets_the_cap_within_seconds() {
        let mut adaptive = Adaptive::new(Duration::ZERO);
        for millis in (0..8_000).step_by(10) {
            let now = Duration::from_millis(millis);
            let answer = Answer { hint: Hint::Well, took: Duration::from_millis(5), in_use: true, now };
            assert_eq!(adaptive.note(answer, CAP), None);
        }
        assert_eq!(adaptive.limit(), CAP);
        let idle =
            Answer { hint: Hint::Well, took: Duration::from_millis(5), in_use: false, now: Duration::from_secs(9) };
        assert_eq!((adaptive.note(idle, 80), adaptive.limit()), (None, CAP), "what is not used does not grow");
    }

    #[test]
    fn another_workers_cut_holds_and_a_rise_does_not() {
        let mut adaptive = Adaptive::new(Duration::ZERO);
        for millis in (0..4_000).step_by(10) {
            let now = Duration::from_millis(millis);
            adaptive.note(Answer { hint: Hint::Well, took: Duration::from_millis(5), in_use: true, now }, CAP);
        }
        let found = adaptive.limit();
        adaptive.heed(40, Duration::ZERO);
        assert_eq!((found > 10, adaptive.limit()), (true, found));
        adaptive.heed(2, Duration::ZERO);
        assert_eq!(adaptive.limit(), 2);
        adaptive.heed(0, Duration::ZERO);
        assert_eq!(adaptive.limit(), 1, "one request at least");
    }
}
