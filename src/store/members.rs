//! Members and their leases in the database. Every statement stands alone: no member that is paused in the middle of
//! something can hold up the others' renewals.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool};
use sqlx::{Connection as _, Executor as _, FromRow, PgConnection};
use uuid::Uuid;

use crate::domain::event::Partition;
use crate::domain::shares::{Owner, Peer};

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
    /// Its share of the cap on a host. It is gone if the lease had ended before.
    pub host_share: u16,
}

/// Renews the member's own lease and those on its partitions; joins, if it is not a member (any more).
///
/// # Errors
/// sqlx's.
pub async fn renew(connection: &mut PgConnection, member: &Member, lease: Duration) -> Result<Renewed, sqlx::Error> {
    let (host_share, partitions, epochs): (i32, Vec<i32>, Vec<i64>) = sqlx::query_as(
        // Partitions are locked in the order in which the writer's fence does.
        "with me as (insert into member as m (id, name, host_cap, expires_at) \
         values ($1, $2, $3, clock_timestamp() + $4 * interval '1 ms') \
         on conflict (id) do update set expires_at = excluded.expires_at, \
         host_share = case when m.expires_at < clock_timestamp() then 0 else m.host_share end \
         returning host_share), \
         mine as (select id from partition where owner = $1 order by id for update), \
         held as (update partition p set expires_at = clock_timestamp() + $4 * interval '1 ms' from mine \
         where p.id = mine.id returning p.id, p.epoch) \
         select host_share, array(select id from held order by id), array(select epoch from held order by id) from me",
    )
    .bind(member.id)
    .bind(&member.name)
    .bind(i32::from(member.host_cap))
    .bind(millis(lease))
    .fetch_one(connection)
    .await?;
    let held = partitions.into_iter().map(Partition).zip(epochs).collect();
    Ok(Renewed { held, host_share: share(host_share) })
}

/// The cluster as one member sees it.
#[derive(Debug)]
pub struct View {
    /// This member's number among the peers; none if it is leaving, or its own lease has ended.
    pub me: Option<usize>,
    /// Members that are not leaving, by seniority.
    pub peers: Vec<Peer>,
    /// Who has each partition.
    pub owners: Vec<Owner>,
}

#[derive(FromRow)]
struct PartitionRow {
    owner: Option<Uuid>,
    free: bool,
}

/// Looks at members and partitions.
///
/// # Errors
/// sqlx's.
pub async fn view(connection: &mut PgConnection, member: &Member) -> Result<View, sqlx::Error> {
    let peers: Vec<(Uuid, i32, i32)> = sqlx::query_as(
        "select id, host_cap, host_share from member where expires_at > clock_timestamp() and not leaving \
         order by joined_at, id",
    )
    .fetch_all(&mut *connection)
    .await?;
    let partitions: Vec<PartitionRow> = sqlx::query_as(
        "select owner, owner is null or expires_at <= clock_timestamp() as free from partition order by id",
    )
    .fetch_all(connection)
    .await?;
    let number = |id: Uuid| peers.iter().position(|(peer, ..)| *peer == id);
    let owner = |row: PartitionRow| match row.owner.filter(|_| !row.free) {
        None => Owner::Nobody,
        Some(id) => number(id).map_or(Owner::Leaving, Owner::Member),
    };
    Ok(View {
        me: number(member.id),
        owners: partitions.into_iter().map(owner).collect(),
        peers: peers.iter().map(|(_, cap, part)| Peer { host_cap: share(*cap), is_ready: *part > 0 }).collect(),
    })
}

/// A partition that was taken.
#[derive(Clone, Copy, Debug, FromRow)]
pub struct Claimed {
    /// The partition.
    pub id: i32,
    /// Its epoch from now on.
    pub epoch: i64,
    /// Its former owner gave it back; otherwise its lease has ended.
    pub in_peace: bool,
}

/// Takes those of the partitions that are still free.
///
/// # Errors
/// sqlx's.
pub async fn claim(
    connection: &mut PgConnection,
    member: &Member,
    lease: Duration,
    partitions: &[i32],
) -> Result<Vec<Claimed>, sqlx::Error> {
    let mut claimed: Vec<Claimed> = sqlx::query_as(
        "with free as (select id, owner is null as in_peace from partition \
         where id = any($4) and (owner is null or expires_at <= clock_timestamp()) order by id for update skip locked) \
         update partition p set owner = $1, owner_name = $2, epoch = p.epoch + 1, acquired_at = clock_timestamp(), \
         expires_at = clock_timestamp() + $3 * interval '1 ms' from free where p.id = free.id \
         returning p.id, p.epoch, free.in_peace",
    )
    .bind(member.id)
    .bind(&member.name)
    .bind(millis(lease))
    .bind(partitions)
    .fetch_all(connection)
    .await?;
    claimed.sort_unstable_by_key(|claimed| claimed.id);
    Ok(claimed)
}

/// Gives partitions back. Nothing happens under an older epoch.
///
/// # Errors
/// sqlx's.
pub async fn release(
    connection: &mut PgConnection,
    member: &Member,
    leases: &[(Partition, i64)],
) -> Result<(), sqlx::Error> {
    let (partitions, epochs): (Vec<i32>, Vec<i64>) =
        leases.iter().map(|(partition, epoch)| (partition.0, *epoch)).unzip();
    sqlx::query(
        "update partition p set owner = null, owner_name = null, expires_at = null \
         from unnest($2::int4[], $3::int8[]) as given (id, epoch) \
         where p.owner = $1 and p.id = given.id and p.epoch = given.epoch",
    )
    .bind(member.id)
    .bind(partitions)
    .bind(epochs)
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
/// is left if the member's own lease has ended.
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
         from member o where o.id <> $1 and o.expires_at > clock_timestamp())::integer)) \
         where m.id = $1 and m.expires_at > clock_timestamp() returning host_share",
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
        "with mine as (update partition set owner = null, owner_name = null, expires_at = null where owner = $1) \
         delete from member where id = $1",
    )
    .bind(member.id)
    .execute(&mut *connection)
    .await?;
    tell(connection).await
}

/// Removes members whose lease ended long ago.
///
/// # Errors
/// sqlx's.
pub async fn forget_gone(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("delete from member where expires_at < clock_timestamp() - $1 * interval '1 ms'")
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
