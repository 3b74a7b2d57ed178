//! Members and their leases in the database. Every statement stands alone: no member that is paused in the middle of
//! something can hold up the others' renewals.
//!
//! A member's lease is its own row, renewed again and again; it holds for all of its partitions. When a member is gone is not
//! read from the database's clock: the others watch its renewals, and whoever has seen them stand still for a lease writes
//! that down (see [`crate::domain::lease`]).

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool};
use sqlx::{Connection as _, Executor as _, FromRow, PgConnection};
use uuid::Uuid;

use crate::domain::event::Partition;
use crate::domain::shares::{Owner, Peer};
use crate::lease::Released;

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

/// What a renewal gives.
#[derive(Debug)]
pub struct Renewed {
    /// Partitions that the member still owns, with their epochs.
    pub held: Vec<(Partition, i64)>,
    /// Its share of the cap on a host. It is gone if the member was found to be gone before.
    pub host_share: u16,
}

#[derive(FromRow)]
struct RenewedRow {
    host_share: i32,
    revived: bool,
    partitions: Vec<i32>,
    epochs: Vec<i64>,
}

/// Renews the member's lease, which is that on all of its partitions; joins, if it is not a member (any more).
///
/// Others see by `expires_at` that there was a renewal, so that it changes with each, whatever the database's clock does.
///
/// Partitions are not locked, or every transaction of the writer could hold up the renewal. A member that was found to be gone
/// gets none of them back: others may be taking them.
///
/// # Errors
/// sqlx's.
pub async fn renew(connection: &mut PgConnection, member: &Member, lease: Duration) -> Result<Renewed, sqlx::Error> {
    let RenewedRow { host_share, revived, partitions, epochs } = sqlx::query_as(
        "with me as (insert into member as m (id, name, host_cap, lease_ms, expires_at) \
         values ($1, $2, $3, $4, clock_timestamp() + $4 * interval '1 ms') \
         on conflict (id) do update set lease_ms = excluded.lease_ms, expires_at = excluded.expires_at + \
         case when m.expires_at = excluded.expires_at then interval '1 microsecond' else interval '0' end, \
         revived = m.gone is not distinct from m.expires_at, \
         host_share = case when m.gone is not distinct from m.expires_at then 0 else m.host_share end \
         returning host_share, revived), \
         dropped as (update partition set owner = null, owner_name = null, expires_at = null, graceful = false \
         where owner = $1 and (select revived from me)) \
         select host_share, revived, array(select id from partition where owner = $1 order by id) as partitions, \
         array(select epoch from partition where owner = $1 order by id) as epochs from me",
    )
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
    sqlx::query(
        "update partition p set expires_at = clock_timestamp() + $2 * interval '1 ms' \
         from (select id from partition where owner = $1 order by id for update) mine where p.id = mine.id",
    )
    .bind(member.id)
    .bind(millis(OLDER_PROGRAMS_WAIT))
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

/// The cluster as one member sees it.
#[derive(Debug)]
pub struct View {
    /// This member's number among the peers; none if it is leaving, or was found to be gone.
    pub me: Option<usize>,
    /// Members that are neither leaving nor gone, by seniority.
    pub peers: Vec<Peer>,
    /// Who has each partition.
    pub owners: Vec<Owner>,
    /// Of each partition, by its number.
    pub epochs: Vec<i64>,
    /// Of the other members that are not found to be gone: the last renewal, and the length of the lease, if it is known.
    pub renewals: Vec<(Uuid, i64, Option<Duration>)>,
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

/// A renewal as a number that changes with each: when it would end, in microseconds since 1970.
macro_rules! renewal {
    () => {
        "(extract(epoch from expires_at) * 1000000)::int8"
    };
}

/// Looks at members and partitions. No clock has a say in it.
///
/// # Errors
/// sqlx's.
pub async fn view(connection: &mut PgConnection, member: &Member) -> Result<View, sqlx::Error> {
    let members: Vec<MemberRow> = sqlx::query_as(concat!(
        "select id, host_cap, host_share, leaving, ",
        renewal!(),
        " as renewal, lease_ms from member where gone is distinct from expires_at order by joined_at, id"
    ))
    .fetch_all(&mut *connection)
    .await?;
    let partitions: Vec<PartitionRow> =
        sqlx::query_as("select owner, epoch from partition order by id").fetch_all(connection).await?;
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
    sqlx::query(concat!(
        "update member m set gone = expires_at, host_share = 0 from unnest($1::uuid[], $2::int8[]) as seen (id, renewal) \
         where m.id = seen.id and ",
        renewal!(),
        " = seen.renewal"
    ))
    .bind(ids)
    .bind(renewals)
    .execute(connection)
    .await
    .map(drop)
}

/// A partition that was taken.
#[derive(Clone, Copy, Debug, FromRow)]
pub struct Claimed {
    /// The partition.
    pub id: i32,
    /// Its epoch from now on.
    pub epoch: i64,
    /// Its former owner gave it back, and had seen the queue without a consumer of before.
    pub graceful: bool,
}

/// Takes those of the partitions that are still free, and whose epoch is the one that was seen.
///
/// # Errors
/// sqlx's.
pub async fn claim(
    connection: &mut PgConnection,
    member: &Member,
    partitions: &[(i32, i64)],
) -> Result<Vec<Claimed>, sqlx::Error> {
    let (partitions, epochs): (Vec<i32>, Vec<i64>) = partitions.iter().copied().unzip();
    let mut claimed: Vec<Claimed> = sqlx::query_as(
        // The epoch is what counts if the row has changed between the look at the owner and its lock.
        "with free as (select p.id, p.owner is null and p.graceful as graceful from partition p \
         join unnest($4::int4[], $5::int8[]) as seen (id, epoch) on p.id = seen.id and p.epoch = seen.epoch \
         where p.owner is null or not exists (select from member m where m.id = p.owner \
         and m.gone is distinct from m.expires_at) order by p.id for update of p skip locked) \
         update partition p set owner = $1, owner_name = $2, epoch = p.epoch + 1, acquired_at = clock_timestamp(), \
         expires_at = clock_timestamp() + $3 * interval '1 ms', graceful = false from free where p.id = free.id \
         returning p.id, p.epoch, free.graceful",
    )
    .bind(member.id)
    .bind(&member.name)
    .bind(millis(OLDER_PROGRAMS_WAIT))
    .bind(partitions)
    .bind(epochs)
    .fetch_all(connection)
    .await?;
    claimed.sort_unstable_by_key(|claimed| claimed.id);
    Ok(claimed)
}

/// Gives partitions back. Nothing happens under an older epoch.
///
/// # Errors
/// sqlx's.
pub async fn release(connection: &mut PgConnection, member: &Member, leases: &[Released]) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update partition p set owner = null, owner_name = null, expires_at = null, graceful = given.graceful \
         from unnest($2::int4[], $3::int8[], $4::bool[]) as given (id, epoch, graceful) \
         where p.owner = $1 and p.id = given.id and p.epoch = given.epoch",
    )
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
    sqlx::query("update member set host_share = least(host_share, $2) where id = $1")
        .bind(member.id)
        .bind(i32::from(host_share))
        .execute(&mut *connection)
        .await?;
    tell(connection).await
}

/// Raises the member's share towards `target`, by no more than what all others together leave of `cap`. Gives the share; none
/// is left if the member was found to be gone. Whoever was found to be gone has none; all others count, whatever the database's
/// clock says.
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
    // One at a time: the sum below has to be the one that the last of them left.
    transaction.execute("select from cluster for update").await?;
    let raised: Option<(i32,)> = sqlx::query_as(
        "update member m set host_share = greatest(m.host_share, least($2, $3 - (select coalesce(sum(o.host_share), 0) \
         from member o where o.id <> $1)::integer)) \
         where m.id = $1 and m.gone is distinct from m.expires_at returning host_share",
    )
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
    sqlx::query("update member set leaving = true where id = $1").bind(member.id).execute(&mut *connection).await?;
    tell(connection).await
}

/// Leaves: what is still its own is free.
///
/// # Errors
/// sqlx's; then the leases end by themselves.
pub async fn leave(connection: &mut PgConnection, member: &Member) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with mine as (update partition set owner = null, owner_name = null, expires_at = null, graceful = false \
         where owner = $1) delete from member where id = $1",
    )
    .bind(member.id)
    .execute(&mut *connection)
    .await?;
    tell(connection).await
}

/// Removes members that were found to be gone long ago.
///
/// # Errors
/// sqlx's.
pub async fn forget_gone(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("delete from member where gone = expires_at and expires_at < clock_timestamp() - $1 * interval '1 ms'")
        .bind(millis(REMEMBERED))
        .execute(connection)
        .await
        .map(drop)
}

/// Tells the others to look.
///
/// # Errors
/// sqlx's; then they look by themselves, a little later.
pub async fn tell(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_notify($1, '')").bind(CHANNEL).execute(connection).await.map(drop)
}

/// A connection that hears what is told.
///
/// # Errors
/// sqlx's.
pub async fn listen(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

fn share(stored: i32) -> u16 {
    u16::try_from(stored).unwrap_or(0)
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
