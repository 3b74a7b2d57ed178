//! Leases in this process: who may work on which partition, until when, and what is still at work under each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::domain::event::Partition;
use crate::domain::lease::may_begin;
use crate::engine::leases::{Grant, Proof};
use crate::engine::membership::{Claimed, Released};

/// A lease on a partition.
#[derive(Debug)]
pub struct Lease {
    /// The partition.
    pub partition: Partition,
    /// Grows with every change of owner.
    pub epoch: i64,
    /// The former owner gave the partition back, with nothing left at work, and nothing of its own former owner's.
    pub graceful: bool,
    /// The queue was seen without the former owner's consumer, and the broker had the time to take its messages back.
    alone: AtomicBool,
    standing: Standing,
    /// Nothing begins under it any more. Left only by the lease's end.
    closed: CancellationToken,
    /// Another owner has taken over. Never left.
    lost: CancellationToken,
    work: TaskTracker,
}

impl Lease {
    /// Proof that the lease is held, for one piece of work. None if nothing may begin any more.
    #[must_use]
    pub fn hold(self: &Arc<Self>) -> Option<Held> {
        // Taken before the look: whoever closes the lease sees the one or the other.
        let work = self.work.token();
        (!self.closed.is_cancelled()).then(|| Held { lease: self.clone(), _work: work })
    }

    /// The former owner's consumer is gone, and its messages are back in the queue.
    pub fn note_alone(&self) {
        self.alone.store(true, Ordering::Release);
    }

    /// Whether anybody has consumed under this lease: then what was left at the broker may be our own.
    #[must_use]
    pub fn was_alone(&self) -> bool {
        self.alone.load(Ordering::Acquire)
    }

    /// The lease as it is given back. A next owner has to wait for the broker if this one had to, and did not get to it.
    #[must_use]
    pub fn released(&self) -> Released {
        let graceful = self.graceful || self.was_alone();
        Released { partition: self.partition, epoch: self.epoch, graceful }
    }

    /// Lets nothing new begin; what is at work goes on.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Waits until the lease is closed.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Whether nothing may begin any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Waits until every [`Held`] is given back. For a closed lease.
    pub async fn unused(&self) {
        self.work.close();
        self.work.wait().await;
    }

    /// Whether nothing is at work under the lease.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.work.is_empty()
    }

    /// Whether another owner has taken over.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Marks the lease as lost: found by a renewal, or by a fenced write. Whoever keeps the leases is told.
    pub fn lose(&self) {
        self.lost.cancel();
        self.close();
        self.standing.0.fenced.notify_one();
    }
}

/// Proof that a lease was held when a piece of work began. Every write of an owner carries it; a lease that is given up
/// gracefully is released only when all of them are given back.
#[derive(Clone, Debug)]
pub struct Held {
    lease: Arc<Lease>,
    _work: TaskTrackerToken,
}

impl Held {
    /// The partition.
    #[must_use]
    pub fn partition(&self) -> Partition {
        self.lease.partition
    }

    /// The epoch that the database has to have for a write.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.lease.epoch
    }

    /// The lease itself.
    #[must_use]
    pub fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// How often the leases had ended before they were renewed. Who waits for a renewal and sees this change has waited
    /// for too long.
    #[must_use]
    pub fn lapses(&self) -> u64 {
        self.lease.standing.0.lapses.load(Ordering::Acquire)
    }

    /// Whether an attempt that has to be over at `deadline` of [`crate::clock::now`] may begin.
    #[must_use]
    pub fn covers(&self, deadline: Duration) -> bool {
        !self.is_lost() && may_begin(deadline, self.lease.standing.counts_until())
    }

    /// Whether another owner has taken over.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lease.is_lost()
    }

    /// A write was fenced.
    pub fn lose(&self) {
        self.lease.lose();
    }
}

/// What all leases of one member have in common: they are renewed as one.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Microseconds of [`crate::clock::now`].
    counts_until: AtomicU64,
    lapses: AtomicU64,
    fenced: Notify,
}

impl Standing {
    /// Renewed after they had ended: what waited for it has to begin again.
    pub fn lapse(&self) {
        self.0.lapses.fetch_add(1, Ordering::AcqRel);
    }

    /// Renewed: the leases count until this moment of [`crate::clock::now`].
    pub fn extend(&self, until: Duration) {
        self.0.counts_until.store(u64::try_from(until.as_micros()).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn counts_until(&self) -> Duration {
        Duration::from_micros(self.0.counts_until.load(Ordering::Acquire))
    }

    /// Waits until a lease was found to be lost.
    pub async fn fenced(&self) {
        self.0.fenced.notified().await;
    }

    /// A lease that the database has granted.
    #[must_use]
    pub fn lease(&self, claimed: &Claimed) -> Arc<Lease> {
        let Claimed { partition, epoch, graceful } = *claimed;
        Arc::new(Lease {
            partition,
            epoch,
            graceful,
            alone: AtomicBool::new(false),
            standing: self.clone(),
            closed: CancellationToken::new(),
            lost: CancellationToken::new(),
            work: TaskTracker::new(),
        })
    }
}

impl Grant for Arc<Lease> {
    type Proof = Held;

    fn partition(&self) -> Partition {
        self.partition
    }

    fn epoch(&self) -> i64 {
        self.epoch
    }

    fn hold(&self) -> Option<Held> {
        Lease::hold(self)
    }
}

impl Proof for Held {
    fn partition(&self) -> Partition {
        self.lease.partition
    }

    fn epoch(&self) -> i64 {
        self.lease.epoch
    }
}
