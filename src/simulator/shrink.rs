//! A scenario that breaks a promise becomes a short one that does.

use super::run;
use super::scenario::Scenario;

/// Leaves out what need not be there for any promise to be broken; tries so many runs at most. Gives what is left, and the
/// promise that it breaks.
#[must_use]
pub fn shrink(scenario: &Scenario, broken: String, runs: usize) -> (Scenario, String) {
    let (mut best, mut broken, mut left) = (scenario.clone(), broken, runs);
    let mut size = best.steps.len().div_ceil(2).max(1);
    loop {
        let mut at = 0;
        let mut shrunk = false;
        while at < best.steps.len() && left > 0 {
            let mut shorter = best.clone();
            shorter.steps.drain(at..(at + size).min(shorter.steps.len()));
            left -= 1;
            if let Some(still) = run(&shorter).broken {
                (best, broken, shrunk) = (shorter, still, true);
            } else {
                at += size;
            }
        }
        if left == 0 || (size == 1 && !shrunk) {
            return (best, broken);
        }
        size = size.div_ceil(2);
    }
}
