//! How long to wait before the next attempt.

use std::time::Duration;

/// The delay ladder's step: delays are whole multiples of it, so that no wake-up comes early.
pub const TICK: Duration = Duration::from_millis(100);

/// Exponential back-off with jitter on top.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The delay after the first failed attempt.
    pub initial: Duration,
    /// The largest delay, before jitter.
    pub max: Duration,
    /// What each further failure multiplies the delay by; at least 1.
    pub factor: f64,
    /// The most that jitter adds, as a share of the delay: 0.1 is 10 %.
    pub jitter: f64,
}

impl Backoff {
    /// The delay after failed attempt number `attempt` (from 1), in whole [`TICK`]s, never less than the nominal
    /// delay rounded up to a tick, and jittered by a `seed` that is uniform over all `u64`.
    #[must_use]
    pub fn delay(&self, attempt: u16, seed: u64) -> Duration {
        let exponent = i32::from(attempt.max(1)) - 1;
        let nominal = (self.initial.as_secs_f64() * self.factor.powi(exponent)).min(self.max.as_secs_f64());
        let least = (nominal / TICK.as_secs_f64() - 1e-6).ceil().max(1.0);
        let most = ((nominal * (1.0 + self.jitter)) / TICK.as_secs_f64() + 1e-6).floor().max(least);
        // `most` is bounded by the settings (a day at most), far below 2^32 ticks.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded just above")]
        let (least, most) = (least as u32, most as u32);
        let choices = u64::from(most - least) + 1;
        // The high half of the product: uniform without the bias of a remainder.
        #[expect(clippy::cast_possible_truncation, reason = "less than `choices`, which came from a u32")]
        let chosen = ((u128::from(seed) * u128::from(choices)) >> 64) as u32;
        TICK * (least + chosen)
    }
}

/// How long to wait after each failed attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Delays {
    /// Longer and longer.
    Growing(Backoff),
    /// These; the last one holds for all that follow. There is one at least.
    Listed {
        /// In their order.
        delays: Vec<Duration>,
        /// The most that jitter adds, as a share of the delay.
        jitter: f64,
    },
}

impl Delays {
    /// The delay after failed attempt number `attempt` (from 1); see [`Backoff::delay`].
    #[must_use]
    pub fn after(&self, attempt: u16, seed: u64) -> Duration {
        match self {
            Self::Growing(backoff) => backoff.delay(attempt, seed),
            Self::Listed { delays, jitter } => {
                let at = usize::from(attempt.max(1)) - 1;
                let delay = delays.get(at).or(delays.last()).copied().unwrap_or(TICK);
                Backoff { initial: delay, max: delay, factor: 1.0, jitter: *jitter }.delay(1, seed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DEFAULT: Backoff =
        Backoff { initial: Duration::from_secs(1), max: Duration::from_mins(1), factor: 2.0, jitter: 0.1 };

    #[test]
    fn delays_double_from_one_second_to_sixty() {
        let table = [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (8, 60), (40, 60), (u16::MAX, 60)];
        for (attempt, seconds) in table {
            assert_eq!(DEFAULT.delay(attempt, 0), Duration::from_secs(seconds), "attempt {attempt}");
            let most = DEFAULT.delay(attempt, u64::MAX);
            assert_eq!(most, Duration::from_millis(seconds * 1_100), "attempt {attempt}");
        }
    }

    #[test]
    fn a_delay_below_a_tick_is_a_tick() {
        let quick = Backoff { initial: Duration::from_millis(1), ..DEFAULT };
        assert_eq!(quick.delay(1, u64::MAX), TICK);
    }

    #[test]
    fn listed_delays_come_in_their_order_and_the_last_one_stays() {
        let delays = [1, 10, 300].map(Duration::from_secs).to_vec();
        let delays = Delays::Listed { delays, jitter: 0.0 };
        for (attempt, seconds) in [(0, 1), (1, 1), (2, 10), (3, 300), (4, 300), (u16::MAX, 300)] {
            assert_eq!(delays.after(attempt, u64::MAX), Duration::from_secs(seconds), "attempt {attempt}");
        }
    }

    proptest! {
        #[test]
        fn jitter_stays_within_its_bounds_for_any_seed(
            attempt in 0u16..100, seed: u64, initial in 1u64..5_000, max in 5_000u64..100_000, jitter in 0.0f64..=1.0,
        ) {
            let backoff = Backoff {
                initial: Duration::from_millis(initial),
                max: Duration::from_millis(max),
                factor: 2.0,
                jitter,
            };
            let exponent = i32::from(attempt.max(1)) - 1;
            let nominal = (backoff.initial.as_secs_f64() * 2f64.powi(exponent)).min(backoff.max.as_secs_f64());
            let delay = backoff.delay(attempt, seed).as_secs_f64();
            prop_assert!(delay >= nominal - 1e-6);
            // One tick of rounding is allowed where the jittered range holds no whole tick.
            prop_assert!(delay <= (nominal * (1.0 + jitter)).max(nominal + TICK.as_secs_f64()) + 1e-6);
        }
    }
}
