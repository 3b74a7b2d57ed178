//! When a lease counts, and for what: the rules that keep two owners of a partition apart.
//!
//! A lease is measured by two clocks, that of the member that holds it and that of whoever wants to take it; never by the
//! database's, which may be set, and jumps at a failover. Both are clocks that nobody sets, and may run a little faster or
//! slower. The holder counts its lease from *before* it asked for a renewal, and gives up a part of it to the drift. The other
//! one watches: a member is gone if its renewals stood still for the whole of a lease, under one server of the database. Another
//! server that takes over may have forgotten renewals that members count on; so with it the watch begins anew.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// A lease counts for its length without this part of it: 2 %, so that a member's clock may be 1 % slow while that of
/// another one, which waits for the lease's end, is 1 % fast.
const DRIFT_PART: u32 = 50;

/// Until when a member counts on a lease of this `length` that it asked for at `asked`, on its own clock.
#[must_use]
pub fn counts_until(asked: Duration, length: Duration) -> Duration {
    asked + length.saturating_sub(length / DRIFT_PART)
}

/// Whether an attempt may begin: only if its deadline lies within the lease, so that nothing is in flight any more when
/// the partition moves on.
#[must_use]
pub fn may_begin(deadline: Duration, counts_until: Duration) -> bool {
    deadline <= counts_until
}

/// Whether an attempt may still put bytes on the wire. A process that was paused, or whose machine was suspended, comes back
/// with the past in its hands: what it was about to send may be another owner's by now.
#[must_use]
pub fn may_send(now: Duration, deadline: Duration) -> bool {
    now < deadline
}

/// Whether the database takes a write under (owner, epoch): the fence.
#[must_use]
pub fn is_current<O: PartialEq>(recorded: (Option<&O>, i64), writer: (&O, i64)) -> bool {
    recorded == (Some(writer.0), writer.1)
}

/// A look at a member's renewals. Times are those of the one who looks.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Before the database was asked.
    pub asked: Duration,
    /// After it had answered.
    pub answered: Duration,
}

/// Whether a member is gone whose renewals have stood still since a look that was answered at `since`.
#[must_use]
pub fn is_gone(since: Duration, look: Look, lease: Duration) -> bool {
    look.asked.saturating_sub(since) >= lease
}

/// What one member has seen of the others' renewals: for each, the last one, and since when.
#[derive(Clone, Debug)]
pub struct Sightings<M> {
    seen: HashMap<M, (i64, Duration)>,
    last: Duration,
}

impl<M> Default for Sightings<M> {
    fn default() -> Self {
        Self { seen: HashMap::new(), last: Duration::ZERO }
    }
}

impl<M: Copy + Eq + Hash> Sightings<M> {
    /// Notes what a look has shown: of each member, its last renewal (a value that changes with each, and with the server) and
    /// the length of its lease. Gives those that are gone, with their last renewal.
    ///
    /// If the last look was long ago, the watch begins anew: while nobody could look, nobody could renew either, and after an
    /// outage of the database every member gets the time to come back.
    pub fn note(&mut self, look: Look, members: impl IntoIterator<Item = (M, i64, Duration)>) -> Vec<(M, i64)> {
        let pause = look.asked.saturating_sub(self.last);
        let mut before = std::mem::take(&mut self.seen);
        self.last = look.answered;
        let mut gone = Vec::new();
        for (member, renewal, lease) in members {
            let unchanged = before.remove(&member).filter(|(last, _)| *last == renewal && pause < lease / 2);
            let since = unchanged.map_or(look.answered, |(_, since)| since);
            self.seen.insert(member, (renewal, since));
            if is_gone(since, look, lease) {
                gone.push((member, renewal));
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests;
