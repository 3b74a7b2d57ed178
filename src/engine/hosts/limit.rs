//! What the settings of a destination make of this worker's part of the cap.

use std::time::Duration;

use crate::domain::destination::Destination;

/// Requests of this time may go out at once, to a host that has had none for as long: what has to wait looks every 20 ms.
const BURST: Duration = Duration::from_millis(100);

/// The limits of one host, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limit {
    /// Requests at a time, if not as many as the cap allows.
    connections: Option<usize>,
    /// Requests a second.
    rate: Option<f64>,
}

impl Limit {
    /// As the settings have it.
    #[must_use]
    pub fn of(destination: &Destination) -> Self {
        Self { connections: destination.connections.map(usize::from), rate: destination.rate }
    }

    /// How many requests at a time this worker may have, if it has `share` of the `cap`.
    ///
    /// Rounded down, so that all workers together stay within the limit; but a worker that has any share has one request at
    /// least, or events of its partitions would never be sent.
    #[must_use]
    pub fn part(self, share: usize, cap: usize) -> usize {
        match self.connections {
            None => share,
            Some(connections) => (share * connections / cap.max(1)).max(usize::from(share > 0)),
        }
    }

    /// How many requests at a time all workers together may have.
    #[must_use]
    pub fn all(self, cap: usize) -> usize {
        self.connections.unwrap_or(cap)
    }

    /// Whether this part would be less than one request.
    #[must_use]
    pub fn is_crowded(self, share: usize, cap: usize) -> bool {
        self.connections.is_some_and(|connections| share > 0 && share * connections < cap)
    }

    /// The least share of the `cap` of which `requests` are a part: the reverse of [`Self::part`].
    #[must_use]
    pub fn share_for(self, requests: usize, cap: usize) -> usize {
        match self.connections {
            None => requests,
            Some(_) if requests <= 1 => requests,
            Some(connections) => (requests * cap).div_ceil(connections.max(1)),
        }
    }

    /// The time between two requests of this worker.
    fn interval(self, share: usize, cap: usize) -> Option<Duration> {
        let rate = self.rate?;
        // Both are in the thousands at most.
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        let part = rate * share as f64 / cap.max(1) as f64;
        Duration::try_from_secs_f64(1.0 / part).ok()
    }
}

/// When a host with a rate may have its next request: the generic cell rate algorithm (ITU-T I.371), with [`BURST`] as its
/// tolerance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Throttle {
    /// When the next request would come at an even pace.
    even: Duration,
    /// The host is to be looked at again.
    pub is_queued: bool,
}

impl Throttle {
    /// Whether a request may begin.
    #[must_use]
    pub fn allows(self, limit: Limit, now: Duration) -> bool {
        limit.rate.is_none() || self.even <= now + BURST
    }

    /// One has begun, at a worker that has `share` of the `cap`.
    pub fn note(&mut self, limit: Limit, (share, cap): (usize, usize), now: Duration) {
        if let Some(interval) = limit.interval(share, cap) {
            self.even = self.even.max(now) + interval;
        }
    }

    /// Whether nothing has to be remembered any more.
    #[must_use]
    pub fn is_over(self, now: Duration) -> bool {
        self.even <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(connections: Option<usize>, rate: Option<f64>) -> Limit {
        Limit { connections, rate }
    }

    #[test]
    fn all_workers_together_stay_within_the_limit() {
        for (cap, connections) in [(50, 20), (50, 200), (50, 50), (4, 3), (7, 100)] {
            for workers in 1..=4_usize.min(cap).min(connections) {
                let shares = (0..workers).map(|worker| cap / workers + usize::from(worker < cap % workers));
                let parts: Vec<usize> = shares.map(|share| limit(Some(connections), None).part(share, cap)).collect();
                let least = parts.iter().filter(|part| **part == 1).count();
                let sum: usize = parts.iter().sum();
                assert!(sum <= connections.max(least), "{parts:?} of {connections}, cap {cap}");
            }
        }
    }

    #[test]
    fn a_part_is_at_least_one_of_any_share_and_nothing_of_none() {
        let one = limit(Some(1), None);
        assert_eq!([0, 1, 25, 50].map(|share| one.part(share, 50)), [0, 1, 1, 1]);
        assert_eq!([0, 1, 25].map(|share| limit(None, None).part(share, 50)), [0, 1, 25]);
    }

    #[test]
    fn the_share_for_some_requests_is_the_least_that_allows_them() {
        for connections in [1, 3, 20, 50, 170] {
            let limit = limit(Some(connections), None);
            for share in 1..=50 {
                let part = limit.part(share, 50);
                let least = limit.share_for(part, 50);
                assert!(
                    least <= share && limit.part(least, 50) >= part,
                    "{connections}: {share} gives {part}, {least}"
                );
            }
        }
    }

    #[test]
    fn a_rate_is_kept_by_each_worker_for_its_part() {
        let (limit, mut throttle) = (limit(None, Some(100.0)), Throttle::default());
        let (mut now, mut begun) = (Duration::from_secs(9), 0);
        while now < Duration::from_secs(19) {
            while throttle.allows(limit, now) {
                throttle.note(limit, (25, 50), now);
                begun += 1;
            }
            now += Duration::from_millis(20);
        }
        // Half of a hundred a second, and the first burst.
        assert!((500..=506).contains(&begun), "{begun}");
        assert!(!throttle.is_over(now) && throttle.is_over(now + BURST));
    }
}
