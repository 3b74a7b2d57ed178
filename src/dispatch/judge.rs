//! An attempt's outcome becomes what is recorded of it.

use std::hash::{BuildHasher as _, RandomState};

use crate::domain::verdict::{Attempts, Policy};
use crate::handoff::Ended;
use crate::store::progress::Settlement;

/// The settings of a verdict.
#[derive(Clone, Debug)]
pub struct Judge {
    /// Attempts, delays, final statuses.
    pub policy: Policy,
    /// A FAILED event keeps its entity waiting.
    pub hold: bool,
    /// Makes every worker's jitter its own.
    pub seed: RandomState,
}

impl Judge {
    /// What is recorded of an attempt that has ended.
    #[must_use]
    pub fn settlement(&self, ended: Ended) -> Settlement {
        let Ended { candidate, held, outcome, took } = ended;
        let seed = self.seed.hash_one((candidate.id, candidate.attempts));
        let attempts = Attempts { begun: candidate.attempts, unknown: candidate.unknown };
        let decision = self.policy.judge(attempts, &outcome, seed);
        Settlement { candidate, held, outcome, decision, took, hold: self.hold }
    }
}
