//! Members and their leases in the database. Every statement stands alone: no member that is paused in the middle of
//! something can hold up the others' renewals.
//!
//! A member's lease is its own row, renewed again and again; it holds for all of its partitions. When a member is gone is not
//! read from the database's clock: the others watch its renewals, and whoever has seen them stand still for a lease writes
//! that down (see [`crate::domain::lease`]).

use std::time::Duration;

use sqlx::postgres::PgPool;
use sqlx::{Connection as _, Executor as _, FromRow, PgConnection};
use uuid::Uuid;

use super::listener::Listener;
use super::sql::members as sql;
use crate::domain::event::Partition;
use crate::domain::shares::{Owner, Peer};
use crate::engine::membership::{Claimed, Released, Renewed, View};

/// What members tell each other over: something about members or partitions has changed.
const CHANNEL: &str = "onceward_cluster";
/// Rows of members that ended without a word are kept for people to see, for this long after their lease.
const REMEMBERED: Duration = Duration::from_mins(1);

/// A worker, as the leases know it: new at each start.
#[derive(Clone, Debug)]
pub struct Member {
    /// Unique for each start of a worker.
    pub id: Uuid,
    /// For people: host and process.
    pub name: String,
    /// Its own `--host-connections`.
    pub host_cap: u16,
}

#[derive(FromRow)]
struct RenewedRow {
    host_share: i32,
    revived: bool,
    partitions: Vec<i32>,
    epochs: Vec<i64>,
}

/// Renews the member's lease, which is that on all of its partitions; joins, if it is not a member (any more).
/// A member that was found to be gone gets none of its partitions back.
///
/// # Errors
/// sqlx's.
pub async fn renew(connection: &mut PgConnection, member: &Member, lease: Duration) -> Result<Renewed, sqlx::Error> {
    let RenewedRow { host_share, revived, partitions, epochs } = sqlx::query_as(sql::RENEW)
        .bind(member.id)
        .bind(&member.name)
        .bind(i32::from(member.host_cap))
        .bind(millis(lease))
        .fetch_one(connection)
        .await?;
    let held = partitions.into_iter().map(Partition).zip(epochs).filter(|_| !revived).collect();
    Ok(Renewed { held, host_share: share(host_share) })
}

/// Programs that know nothing of renewals take a partition when this time is over.
const OLDER_PROGRAMS_WAIT: Duration = Duration::from_mins(10);
/// How long [`keep_from_older`] waits for the writer.
const LOCK_WITHIN: &str = "set local lock_timeout = '500ms'";

/// Keeps the member's partitions from programs of before migration 6, which take one when its own time is over. Now and then
/// is enough, and it matters only during an update: it gives up if it has to wait for the writer.
///
/// # Errors
/// sqlx's.
pub async fn keep_from_older(connection: &mut PgConnection, member: &Member) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    transaction.execute(LOCK_WITHIN).await?;
    sqlx::query(sql::KEEP_FROM_OLDER)
        .bind(member.id)
        .bind(millis(OLDER_PROGRAMS_WAIT))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

#[derive(FromRow)]
struct MemberRow {
    id: Uuid,
    host_cap: i32,
    host_share: i32,
    leaving: bool,
    renewal: i64,
    lease_ms: Option<i64>,
}

#[derive(FromRow)]
struct PartitionRow {
    owner: Option<Uuid>,
    epoch: i64,
}

/// Looks at members and partitions.
///
/// # Errors
/// sqlx's.
pub async fn view(connection: &mut PgConnection, member: &Member) -> Result<View<Uuid>, sqlx::Error> {
    let members: Vec<MemberRow> = sqlx::query_as(sql::VIEW_MEMBERS).fetch_all(&mut *connection).await?;
    let partitions: Vec<PartitionRow> = sqlx::query_as(sql::VIEW_PARTITIONS).fetch_all(connection).await?;
    let peers: Vec<&MemberRow> = members.iter().filter(|member| !member.leaving).collect();
    let number = |id: Uuid| peers.iter().position(|peer| peer.id == id);
    let owner = |row: &PartitionRow| match row.owner.filter(|id| members.iter().any(|member| member.id == *id)) {
        None => Owner::Nobody,
        Some(id) => number(id).map_or(Owner::Leaving, Owner::Member),
    };
    let lease = |row: &MemberRow| row.lease_ms.and_then(|lease| u64::try_from(lease).ok()).map(Duration::from_millis);
    Ok(View {
        me: number(member.id),
        owners: partitions.iter().map(owner).collect(),
        epochs: partitions.iter().map(|row| row.epoch).collect(),
        peers: peers.iter().map(|row| Peer { host_cap: share(row.host_cap), is_ready: row.host_share > 0 }).collect(),
        renewals: (members.iter().filter(|row| row.id != member.id))
            .map(|row| (row.id, row.renewal, lease(row)))
            .collect(),
    })
}

/// Notes that members are gone whose last renewal was seen to stand still: their share of the cap, and their partitions, are
/// free. One that has renewed since is not gone.
///
/// # Errors
/// sqlx's.
pub async fn note_gone(connection: &mut PgConnection, gone: &[(Uuid, i64)]) -> Result<(), sqlx::Error> {
    let (ids, renewals): (Vec<Uuid>, Vec<i64>) = gone.iter().copied().unzip();
    sqlx::query(sql::NOTE_GONE).bind(ids).bind(renewals).execute(connection).await.map(drop)
}

#[derive(FromRow)]
struct ClaimedRow {
    id: i32,
    epoch: i64,
    graceful: bool,
}

/// Takes those of the partitions that are still free, and whose epoch is the one that was seen.
///
/// # Errors
/// sqlx's.
pub async fn claim(
    connection: &mut PgConnection,
    member: &Member,
    partitions: &[(Partition, i64)],
) -> Result<Vec<Claimed>, sqlx::Error> {
    let (partitions, epochs): (Vec<i32>, Vec<i64>) =
        partitions.iter().map(|(partition, epoch)| (partition.0, *epoch)).unzip();
    let mut claimed: Vec<ClaimedRow> = sqlx::query_as(sql::CLAIM)
        .bind(member.id)
        .bind(&member.name)
        .bind(millis(OLDER_PROGRAMS_WAIT))
        .bind(partitions)
        .bind(epochs)
        .fetch_all(connection)
        .await?;
    claimed.sort_unstable_by_key(|claimed| claimed.id);
    let claimed = claimed.into_iter().map(|ClaimedRow { id, epoch, graceful }| Claimed {
        partition: Partition(id),
        epoch,
        graceful,
    });
    Ok(claimed.collect())
}

/// Gives partitions back. Nothing happens under an older epoch.
///
/// # Errors
/// sqlx's.
pub async fn release(connection: &mut PgConnection, member: &Member, leases: &[Released]) -> Result<(), sqlx::Error> {
    sqlx::query(sql::RELEASE)
        .bind(member.id)
        .bind(leases.iter().map(|lease| lease.partition.0).collect::<Vec<_>>())
        .bind(leases.iter().map(|lease| lease.epoch).collect::<Vec<_>>())
        .bind(leases.iter().map(|lease| lease.graceful).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
}

/// Sets the member's share of the cap on a host to less. Only after nothing is open beyond it.
///
/// # Errors
/// sqlx's.
pub async fn lower_share(connection: &mut PgConnection, member: &Member, host_share: u16) -> Result<(), sqlx::Error> {
    sqlx::query(sql::LOWER_SHARE).bind(member.id).bind(i32::from(host_share)).execute(&mut *connection).await?;
    tell(connection).await
}

/// Raises the member's share towards `target`, by no more than what all others together leave of `cap`. Gives the share; none
/// is left if the member was found to be gone.
///
/// # Errors
/// sqlx's.
pub async fn raise_share(
    connection: &mut PgConnection,
    member: &Member,
    target: u16,
    cap: u16,
) -> Result<u16, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    transaction.execute(sql::LOCK_SHARES).await?;
    let raised: Option<(i32,)> = sqlx::query_as(sql::RAISE_SHARE)
        .bind(member.id)
        .bind(i32::from(target))
        .bind(i32::from(cap))
        .fetch_optional(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(raised.map_or(0, |(raised,)| share(raised)))
}

/// Says that this member is stopping: the others count without it, and wait for its partitions.
///
/// # Errors
/// sqlx's.
pub async fn begin_to_leave(connection: &mut PgConnection, member: &Member) -> Result<(), sqlx::Error> {
    sqlx::query(sql::BEGIN_TO_LEAVE).bind(member.id).execute(&mut *connection).await?;
    tell(connection).await
}

/// Leaves: what is still its own is free.
///
/// # Errors
/// sqlx's; then the leases end by themselves.
pub async fn leave(connection: &mut PgConnection, member: &Member) -> Result<(), sqlx::Error> {
    sqlx::query(sql::LEAVE).bind(member.id).execute(&mut *connection).await?;
    tell(connection).await
}

/// What others may know of the destinations' file that a member has.
#[derive(Clone, Copy, Debug)]
pub struct ShownDestinations<'a> {
    /// Its version.
    pub digest: &'a str,
    /// Why a later one was refused.
    pub refused: Option<&'a str>,
    /// The least limits on requests at a time, and their entries; a few.
    pub limits: &'a [(&'a str, u16)],
}

/// Shows which version of the destinations' file the member has.
///
/// # Errors
/// sqlx's.
pub async fn show_destinations(
    connection: &mut PgConnection,
    member: &Member,
    shown: ShownDestinations<'_>,
) -> Result<(), sqlx::Error> {
    let (limited, limits): (Vec<&str>, Vec<i32>) =
        shown.limits.iter().map(|(entry, limit)| (*entry, i32::from(*limit))).unzip();
    sqlx::query(sql::SHOW_DESTINATIONS)
        .bind(member.id)
        .bind(shown.digest)
        .bind(shown.refused)
        .bind(limited)
        .bind(limits)
        .execute(connection)
        .await
        .map(drop)
}

/// Removes members that were found to be gone long ago.
///
/// # Errors
/// sqlx's.
pub async fn forget_gone(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(sql::FORGET_GONE).bind(millis(REMEMBERED)).execute(connection).await.map(drop)
}

/// Tells the others to look.
///
/// # Errors
/// sqlx's; then they look by themselves, a little later.
pub async fn tell(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(sql::TELL).bind(CHANNEL).execute(connection).await.map(drop)
}

/// A connection that hears what is told.
///
/// # Errors
/// sqlx's.
pub async fn listen(pool: &PgPool) -> Result<Listener, sqlx::Error> {
    Listener::connect(pool, CHANNEL).await
}

fn share(stored: i32) -> u16 {
    u16::try_from(stored).unwrap_or(0)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
