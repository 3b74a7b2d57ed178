//! Leases: who may work on which partition, until when.
//!
//! Expiry is by the database's clock. A worker measures its own lease with the monotonic clock, from *before* it asked,
//! so its own view ends no later than the database's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use crate::domain::event::Partition;

/// A worker, as the leases know it: new at each start.
#[derive(Clone, Debug)]
pub struct Member {
    /// Unique for each start of a worker.
    pub id: Uuid,
    /// For people: host and process.
    pub name: String,
}

/// A lease on a partition. Every write of an owner carries it, and changes nothing under an older epoch.
#[derive(Debug)]
pub struct Lease {
    /// The partition.
    pub partition: Partition,
    /// Grows with every change of owner.
    pub epoch: i64,
    /// Milliseconds of the monotonic clock; shared by all leases of the member, which are renewed as one.
    valid_until: Arc<AtomicU64>,
    lost: AtomicBool,
}

impl Lease {
    /// Whether the lease still holds at `moment` of the monotonic clock. An attempt starts only if its deadline does.
    #[must_use]
    pub fn covers(&self, moment: Duration) -> bool {
        !self.is_lost() && moment.as_millis() <= u128::from(self.valid_until.load(Ordering::Acquire))
    }

    /// Whether another owner has taken over.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Marks the lease as lost: found by a renewal, or by a fenced write.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Release);
    }
}

/// How long the member's leases hold, as the member knows it.
#[derive(Clone, Debug, Default)]
pub struct Validity(Arc<AtomicU64>);

impl Validity {
    /// Renewed: they hold until this moment of the monotonic clock.
    pub fn extend(&self, until: Duration) {
        self.0.store(u64::try_from(until.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
    }

    fn lease(&self, partition: i32, epoch: i64) -> Arc<Lease> {
        Arc::new(Lease {
            partition: Partition(partition),
            epoch,
            valid_until: self.0.clone(),
            lost: AtomicBool::new(false),
        })
    }
}

/// Renews all leases of the member. Gives those (partition, epoch) that it still has.
///
/// # Errors
/// sqlx's.
pub async fn renew(pool: &PgPool, member: &Member, lease: Duration) -> Result<Vec<(Partition, i64)>, sqlx::Error> {
    let rows: Vec<(i32, i64)> = sqlx::query_as(
        // Locked in the order in which the writer's fence does.
        "with ours as (select id from partition where owner = $1 order by id for update) \
         update partition p set expires_at = clock_timestamp() + $2 * interval '1 ms' from ours \
         where p.id = ours.id returning p.id, p.epoch",
    )
    .bind(member.id)
    .bind(millis(lease))
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|(id, epoch)| (Partition(id), epoch)).collect())
}

/// Takes every partition whose owner has left or let its lease end.
///
/// # Errors
/// sqlx's.
pub async fn claim(
    pool: &PgPool,
    member: &Member,
    lease: Duration,
    validity: &Validity,
) -> Result<Vec<Arc<Lease>>, sqlx::Error> {
    let rows: Vec<(i32, i64)> = sqlx::query_as(
        "update partition set owner = $1, owner_name = $2, epoch = epoch + 1, acquired_at = clock_timestamp(), \
         expires_at = clock_timestamp() + $3 * interval '1 ms' \
         where id in (select id from partition where owner is null or expires_at < clock_timestamp() \
         order by id for update skip locked) \
         returning id, epoch",
    )
    .bind(member.id)
    .bind(&member.name)
    .bind(millis(lease))
    .fetch_all(pool)
    .await?;
    let mut leases: Vec<_> = rows.into_iter().map(|(id, epoch)| validity.lease(id, epoch)).collect();
    leases.sort_by_key(|lease| lease.partition);
    Ok(leases)
}

/// The earliest end of another member's lease, as a wait from now; none if all are ours.
///
/// # Errors
/// sqlx's.
pub async fn held_by_others(pool: &PgPool, member: &Member) -> Result<Option<(i64, Duration)>, sqlx::Error> {
    let (held, wait): (i64, Option<f64>) = sqlx::query_as(
        "select count(*), extract(epoch from min(expires_at) - clock_timestamp())::float8 from partition \
         where owner <> $1",
    )
    .bind(member.id)
    .fetch_one(pool)
    .await?;
    Ok(wait.map(|seconds| (held, Duration::from_secs_f64(seconds.max(0.0)))))
}

/// Gives all partitions back, so that another worker can go on at once.
///
/// # Errors
/// sqlx's; then the leases end by themselves.
pub async fn release(pool: &PgPool, member: &Member) -> Result<(), sqlx::Error> {
    sqlx::query("update partition set owner = null, owner_name = null, expires_at = null where owner = $1")
        .bind(member.id)
        .execute(pool)
        .await
        .map(drop)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
