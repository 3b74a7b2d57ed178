//! What becomes of the commits on a link to PostgreSQL, and how to tell a transaction from another by what was said in it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// What becomes of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// It takes place, and its answer comes.
    Pass,
    /// It is under way for so long.
    Delay(Duration),
    /// Its client never hears of it.
    Lose(Lost, Then),
}

/// What is lost of a commit. The client can't tell the one from the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The server never hears of it: it doesn't take place.
    Request,
    /// It takes place.
    Answer,
}

/// How a client that was not answered goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Its connection is silent for so long, and is then reset.
    Reset(Duration),
    /// The whole link is cut, from the moment of the commit until it is healed.
    Cut,
}

/// The commits that a link cares for; the others pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of them.
    Any,
    /// Those of transactions in which at least so many bytes were said.
    Larger(u64),
    /// Those of transactions in which these bytes were said, such as an event's key.
    With(Arc<[u8]>),
}

/// What was planned, and what came of it.
pub(super) struct Commits {
    plan: Mutex<Plan>,
    lost: watch::Sender<u64>,
}

struct Plan {
    which: Which,
    /// One after the other; when there are no more, commits pass.
    fates: Box<dyn Iterator<Item = Commit> + Send>,
}

impl Commits {
    pub(super) fn new() -> Self {
        let plan = Plan { which: Which::Any, fates: Box::new(std::iter::empty()) };
        Self { plan: Mutex::new(plan), lost: watch::Sender::new(0) }
    }

    pub(super) fn plan(&self, which: Which, fates: impl Iterator<Item = Commit> + Send + 'static) {
        *self.lock() = Plan { which, fates: Box::new(fates) };
    }

    /// How many were lost so far.
    pub(super) fn lost(&self) -> watch::Receiver<u64> {
        self.lost.subscribe()
    }

    pub(super) fn note_lost(&self) {
        self.lost.send_modify(|lost| *lost += 1);
    }

    /// What becomes of the commit that ends a transaction of so many bytes.
    pub(super) fn fate(&self, bytes: u64, found: &mut Found) -> Commit {
        let has_marker = found.end();
        let mut plan = self.lock();
        let is_meant = match &plan.which {
            Which::Any => true,
            Which::Larger(least) => bytes >= *least,
            Which::With(_) => has_marker,
        };
        is_meant.then(|| plan.fates.next()).flatten().unwrap_or(Commit::Pass)
    }

    /// Looks for what is looked for in a part of what was said.
    pub(super) fn look(&self, part: &[u8], found: &mut Found) {
        let marker = match &self.lock().which {
            Which::With(marker) => Arc::clone(marker),
            _ => return,
        };
        found.look(part, &marker);
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether some bytes were said in a transaction so far.
#[derive(Default)]
pub(super) struct Found {
    is_found: bool,
    /// The end of what was said: the bytes may begin in one part and end in the next.
    end: Vec<u8>,
}

impl Found {
    fn look(&mut self, part: &[u8], marker: &[u8]) {
        self.end.extend_from_slice(part);
        self.is_found |= self.end.windows(marker.len().max(1)).any(|bytes| bytes == marker);
        let kept = marker.len().saturating_sub(1).min(self.end.len());
        self.end.drain(..self.end.len() - kept);
    }

    /// Of this transaction; the next one begins.
    fn end(&mut self) -> bool {
        self.end.clear();
        std::mem::take(&mut self.is_found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOSE: Commit = Commit::Lose(Lost::Answer, Then::Cut);

    #[test]
    fn fates_come_one_after_the_other_and_then_commits_pass() {
        let (commits, mut found) = (Commits::new(), Found::default());
        assert_eq!(commits.fate(9, &mut found), Commit::Pass);
        commits.plan(Which::Larger(10), [LOSE, Commit::Delay(Duration::ZERO)].into_iter());
        let fates: Vec<_> = [9, 10, 9, 12, 13].map(|bytes| commits.fate(bytes, &mut found)).into();
        assert_eq!(fates, [Commit::Pass, LOSE, Commit::Pass, Commit::Delay(Duration::ZERO), Commit::Pass]);
    }

    #[test]
    fn a_transaction_is_told_by_bytes_that_come_in_any_parts() {
        let said = b"begin event-1 event-17 event-2";
        for size in 1..said.len() {
            for (marker, is_said) in [("event-17", true), ("event-2", true), ("begin", true), ("event-3", false)] {
                let (commits, mut found) = (Commits::new(), Found::default());
                commits.plan(Which::With(marker.as_bytes().into()), std::iter::repeat(LOSE));
                said.chunks(size).for_each(|part| commits.look(part, &mut found));
                let fates = [commits.fate(0, &mut found), commits.fate(0, &mut found)];
                let first = if is_said { LOSE } else { Commit::Pass };
                assert_eq!(fates, [first, Commit::Pass], "{marker} in parts of {size}");
            }
        }
    }
}
