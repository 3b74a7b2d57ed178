//! How an attempt is answered: a pure function of the settings, the key and the attempt, so that runs repeat.

use std::str::FromStr;
use std::time::Duration;

use axum::http::StatusCode;
use sha2::{Digest as _, Sha256};

/// The time before an answer: from `min` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayRange {
    min: Duration,
    max: Duration,
}

impl FromStr for DelayRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        let read = |part: &str| {
            humantime::parse_duration(part.trim())
                .map_err(|error| format!("{error}: write a time such as 100ms, or a range such as 10ms..200ms"))
        };
        let range = Self { min: read(min)?, max: read(max)? };
        if range.min > range.max {
            return Err("the range begins with the longer time: write the shorter one first".into());
        }
        Ok(range)
    }
}

/// The settings of the answers.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) delay: DelayRange,
    /// From 0 to 1.
    pub(super) fail_share: f64,
    pub(super) fail_first: u32,
    pub(super) status: StatusCode,
    pub(super) hang: bool,
    pub(super) seed: u64,
}

/// An answer and the time before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) delay: Duration,
    /// None: never.
    pub(super) status: Option<StatusCode>,
}

impl Plan {
    /// For the attempt that calls itself number `attempt`, and is the `arrival`th one to arrive under this key.
    pub(super) fn decide(&self, key: &str, attempt: u32, arrival: u32) -> Decision {
        let extra = self.delay.max.saturating_sub(self.delay.min).mul_f64(self.random("delay", key, attempt));
        let fails = arrival <= self.fail_first || self.random("fail", key, attempt) < self.fail_share;
        let status = if fails { self.status } else { StatusCode::OK };
        Decision { delay: self.delay.min + extra, status: (!self.hang).then_some(status) }
    }

    /// From 0 up to, but not including 1; independent for each purpose.
    fn random(&self, purpose: &str, key: &str, attempt: u32) -> f64 {
        let mut hash = Sha256::new();
        hash.update(self.seed.to_be_bytes());
        hash.update(attempt.to_be_bytes());
        hash.update(purpose);
        hash.update(key);
        let bytes = hash.finalize();
        f64::from(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            delay: "0ms".parse().unwrap(),
            fail_share: 0.0,
            fail_first: 0,
            status: StatusCode::SERVICE_UNAVAILABLE,
            hang: false,
            seed: 1,
        }
    }

    #[test]
    fn a_delay_is_a_time_or_a_range() {
        let millis = |min, max| DelayRange { min: Duration::from_millis(min), max: Duration::from_millis(max) };
        assert_eq!("250ms".parse(), Ok(millis(250, 250)));
        assert_eq!("10ms..2s".parse(), Ok(millis(10, 2_000)));
        assert_eq!("10ms .. 20ms".parse(), Ok(millis(10, 20)));
        for text in ["", "5", "2s..1s", "1s..", "..1s", "1s..2s..3s"] {
            assert!(text.parse::<DelayRange>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_first_attempts_fail_by_their_arrival() {
        let plan = Plan { fail_first: 2, ..plan() };
        let statuses = [1, 2, 3].map(|arrival| plan.decide("k", 1, arrival).status.unwrap().as_u16());
        assert_eq!(statuses, [503, 503, 200]);
    }

    #[test]
    fn a_share_fails_the_same_attempts_in_every_run_with_the_same_seed() {
        let plan = Plan { fail_share: 0.05, ..plan() };
        let fails = |plan: &Plan| -> Vec<u32> {
            (0..10_000).filter(|n| plan.decide(&n.to_string(), 1, 1).status != Some(StatusCode::OK)).collect()
        };
        let failed = fails(&plan);
        assert_eq!(failed, fails(&plan));
        assert!((400..600).contains(&failed.len()), "{}", failed.len());
        assert_ne!(failed, fails(&Plan { seed: 2, ..plan }));
    }

    #[test]
    fn the_ends_of_the_share_are_none_and_all() {
        for n in 0..1_000 {
            let key = n.to_string();
            assert_eq!(plan().decide(&key, n, 1).status, Some(StatusCode::OK));
            let all = Plan { fail_share: 1.0, ..plan() };
            assert_eq!(all.decide(&key, n, 1).status, Some(StatusCode::SERVICE_UNAVAILABLE));
        }
    }

    #[test]
    fn delays_lie_in_their_range_and_differ() {
        let plan = Plan { delay: "10ms..20ms".parse().unwrap(), ..plan() };
        let delays: Vec<_> = (0..100).map(|n| plan.decide("k", n, 1).delay.as_micros()).collect();
        assert!(delays.iter().all(|delay| (10_000..=20_000).contains(delay)));
        assert!(delays.iter().min() < Some(&11_000) && delays.iter().max() > Some(&19_000));
    }

    #[test]
    fn who_hangs_never_answers() {
        assert_eq!(Plan { hang: true, ..plan() }.decide("k", 1, 1).status, None);
    }
}
