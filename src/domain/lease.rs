//! When a lease counts, and for what: the rules that keep two owners of a partition apart.
//!
//! The database grants leases by its own clock. A member measures them by its monotonic clock, which may run a little
//! faster or slower; so it counts each from *before* it asked, and gives up a part of it to the drift.

use std::time::Duration;

/// A lease counts for its length without this part of it: 2 %, so that a member's clock may be 1 % slow while the
/// database's is 1 % fast.
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

/// Whether an attempt may still put bytes on the wire. A process that was paused comes back with the past in its hands:
/// what it was about to send may be another owner's by now.
#[must_use]
pub fn may_send(now: Duration, deadline: Duration) -> bool {
    now < deadline
}

/// Whether the database takes a write under (owner, epoch): the fence.
#[must_use]
pub fn is_current<O: PartialEq>(recorded: (Option<&O>, i64), writer: (&O, i64)) -> bool {
    recorded == (Some(writer.0), writer.1)
}

#[cfg(test)]
mod tests;
