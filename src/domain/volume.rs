//! How many bytes of bodies one transaction takes: what the link to the database carries in a part of its time limit.

use std::time::Duration;

/// The least: a slow link, or a database under pressure. One event alone may be larger.
const LEAST: usize = 64 * 1024;
/// The most, whatever the link carries: a statement is built whole in memory, here and at the server.
const MOST: usize = 16 * 1024 * 1024;
/// Before anything is known.
const FIRST: usize = 1024 * 1024;
/// The most bodies that one transaction reads back, each for itself.
const MOST_READS: usize = 64;
/// The largest body is forgotten by this part of it with each transaction.
const FORGOTTEN: usize = 16;
/// A transaction with less than this says nothing of the link: its time is that of its round trips.
const TELLING: usize = 128 * 1024;

/// The limit of a transaction, adapted to how long they take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    limit: usize,
    target: Duration,
    /// The largest body of late.
    largest: usize,
}

impl Volume {
    /// Transactions are to take `target` at most, as far as that is a matter of their bodies.
    #[must_use]
    pub fn new(target: Duration) -> Self {
        Self { limit: FIRST, target, largest: 0 }
    }

    /// Bytes that the next transaction may have.
    #[must_use]
    pub fn limit(self) -> usize {
        self.limit
    }

    /// Bodies that the next transaction may read back: how large they are is known only then.
    #[must_use]
    pub fn reads(self) -> usize {
        (MOST / self.largest.max(1)).clamp(1, MOST_READS)
    }

    /// A transaction with so many bytes was committed within a time; the largest body that it wrote or read had `largest`.
    pub fn committed(&mut self, bytes: usize, largest: usize, took: Duration) {
        self.largest = largest.max(self.largest - self.largest.div_ceil(FORGOTTEN).min(self.largest));
        if bytes < TELLING {
            return;
        }
        let carried = bytes as u128 * self.target.as_micros() / took.as_micros().max(1);
        let carried = usize::try_from(carried).unwrap_or(MOST);
        // More only step by step: one quick commit is no promise.
        self.limit = carried.min(self.limit.saturating_mul(2)).clamp(LEAST, MOST);
    }

    /// A transaction with so many bytes came to nothing: the link was lost, or its time was over.
    pub fn failed(&mut self, bytes: usize) {
        // It may have read too much: half as many bodies the next time.
        self.largest = self.largest.max(MOST / MOST_READS).saturating_mul(2).min(MOST);
        if bytes >= TELLING {
            self.limit = (bytes.min(self.limit) / 2).clamp(LEAST, MOST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: usize = 1024 * 1024;
    const TARGET: Duration = Duration::from_secs(1);

    #[test]
    fn the_limit_is_what_the_link_carries_within_the_target() {
        let mut volume = Volume::new(TARGET);
        assert_eq!(volume.limit(), MIB);
        // 12 MiB a second.
        for expected in [2, 4, 8, 12, 12] {
            let bytes = volume.limit();
            volume.committed(bytes, 1024, TARGET * u32::try_from(bytes / 1024).unwrap() / (12 * 1024));
            assert_eq!((volume.limit() + MIB / 2) / MIB, expected);
        }
        volume.committed(8 * MIB, 1024, TARGET * 4);
        assert_eq!(volume.limit(), 2 * MIB, "it became slow");
    }

    #[test]
    fn a_failure_halves_it_and_small_transactions_say_nothing() {
        let mut volume = Volume::new(TARGET);
        volume.failed(600 * 1024);
        assert_eq!(volume.limit(), 300 * 1024);
        volume.failed(8 * MIB);
        assert_eq!(volume.limit(), 150 * 1024, "one event alone had more than the limit");
        volume.failed(100);
        volume.committed(100, 100, TARGET * 20);
        assert_eq!(volume.limit(), 150 * 1024);
    }

    #[test]
    fn large_bodies_are_read_back_a_few_at_a_time() {
        let mut volume = Volume::new(TARGET);
        assert_eq!(volume.reads(), 64);
        volume.committed(0, 4 * MIB, TARGET);
        assert_eq!(volume.reads(), 4);
        volume.failed(0);
        assert_eq!(volume.reads(), 2);
        for _ in 0..100 {
            volume.committed(0, 1024, TARGET);
        }
        assert_eq!(volume.reads(), 64, "large ones are forgotten");
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(steps in proptest::collection::vec((any::<bool>(), any::<u32>(), any::<u32>()), 0..50)) {
            let mut volume = Volume::new(TARGET);
            for (commits, bytes, micros) in steps {
                if commits {
                    volume.committed(bytes as usize, bytes as usize / 2, Duration::from_micros(micros.into()));
                } else {
                    volume.failed(bytes as usize);
                }
                prop_assert!((LEAST..=MOST).contains(&volume.limit()));
                prop_assert!((1..=MOST_READS).contains(&volume.reads()));
            }
        }
    }
}
