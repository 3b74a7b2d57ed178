//! What `onceward status` shows: read beside the work, changing nothing.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use super::gates::{self, ShownGate, ShownPause};
use super::position::UNNUMBERED;
use super::sql::status as sql;
use crate::domain::event::{EventId, Host, Partition, Sequence};
use crate::domain::lifecycle::State;
use crate::domain::waits::WaitsFor;
use crate::engine::hosts::gates::Standing;

/// A worker.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct MemberRow {
    /// Its name.
    pub name: String,
    /// `works`, `stands by`, `leaves`, or `gone` if the others have not seen it renew its lease in time.
    pub state: String,
    /// Seconds since it came.
    pub since_seconds: f64,
    /// Seconds until its lease ends; negative if it has.
    pub lease_seconds: f64,
    /// Requests that it may have open to one host.
    pub host_share: i32,
    /// Partitions that it owns.
    pub partitions: i64,
    /// Open events in them.
    pub open: i64,
    /// Attempts in flight.
    pub in_flight: i64,
    /// Which version of the destinations' file it has: a digest. None without a file.
    pub destinations: Option<String>,
    /// Why it has refused a later one.
    pub destinations_refused: Option<String>,
    /// Entries of that file with the least `connections`.
    #[serde(skip)]
    limited: Option<Vec<String>>,
    /// And these.
    #[serde(skip)]
    limits: Option<Vec<i32>>,
}

/// A partition and its owner.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct PartitionRow {
    /// From 0.
    pub partition: i32,
    /// The owner's name; none if nobody has it.
    pub owner: Option<String>,
    /// How often the owner has changed.
    pub epoch: i64,
    /// Seconds since the owner has it.
    pub since_seconds: Option<f64>,
    /// Seconds until the lease ends; negative if it has.
    pub lease_seconds: Option<f64>,
    /// Open events.
    pub open: i64,
    /// Attempts in flight.
    pub in_flight: i64,
}

/// Open events of one state.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct StateRow {
    /// In capitals.
    pub state: String,
    /// How many.
    pub events: i64,
    /// Seconds since the oldest of them was recorded or changed.
    pub oldest_seconds: f64,
}

#[derive(FromRow)]
struct HeadRow {
    entity: String,
    open: i64,
    state: String,
    attempts: i16,
    parked: bool,
    position: i64,
    next_sequence: Option<i64>,
    since_seconds: f64,
    until_seconds: Option<f64>,
    host: String,
}

impl EntityRow {
    fn of(head: HeadRow, standing: &Standing) -> Self {
        let HeadRow { entity, open, state, attempts, parked, position, next_sequence, .. } = head;
        let number = (position > UNNUMBERED).then_some(Sequence(position));
        let waits = WaitsFor::of(state.parse().unwrap_or(State::Pending), parked, number, next_sequence.map(Sequence));
        let host = Host::from(head.host.as_str());
        let paused = &standing.paused;
        let is_paused = paused.everything || paused.hosts.contains(&host) || paused.entities.contains(entity.as_str());
        let waits = waits.behind(standing.shut.contains(&host), is_paused);
        Self {
            entity,
            open,
            state,
            attempts,
            waits_for: waits.to_string(),
            since_seconds: head.since_seconds,
            until_seconds: head.until_seconds,
            host: head.host,
        }
    }
}

/// An entity with open events, and what it waits for.
#[derive(Clone, Debug, Serialize)]
pub struct EntityRow {
    /// Its name.
    pub entity: String,
    /// Open events.
    pub open: i64,
    /// The state of the first in line.
    pub state: String,
    /// Attempts that the first in line has had.
    pub attempts: i16,
    /// What it waits for: `attempt`, `retry`, `sequence N`, `operator`, `host`, `gate`, `pause`, `turn`.
    pub waits_for: String,
    /// Seconds since then.
    pub since_seconds: f64,
    /// Seconds until the next attempt, if it has a time.
    pub until_seconds: Option<f64>,
    /// Where the first in line goes.
    pub host: String,
}

/// A host with open events.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct HostRow {
    /// `host:port`.
    pub host: String,
    /// Open events.
    pub open: i64,
    /// Attempts in flight.
    pub in_flight: i64,
    /// Events between two attempts.
    pub retry_wait: i64,
    /// Events that wait in the database for the host.
    pub parked: i64,
}

/// A host, or a destination by its name, whose events wait for a reason that is not the receiver's. Its attempts are not
/// sent, and not spent.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct WithheldRow {
    /// `host:port`, or the destination's name.
    pub host: String,
    /// Entities whose first event waits so.
    pub entities: i64,
    /// Seconds since the first of these attempts.
    pub since_seconds: f64,
    /// What most of them wait for, and what to do.
    pub why: String,
    /// The workers that own these entities.
    pub workers: Vec<String>,
}

/// An entry of the destinations' file whose `connections` is less than one for each worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CrowdedRow {
    /// A name, a pattern of hosts, or `defaults`.
    pub entry: String,
    /// Its `connections`.
    pub connections: i32,
    /// Workers that send, each of which has one request at a time all the same.
    pub workers: i32,
}

/// Where the workers together have more requests at a time than the least limit that any of them knows.
fn crowded(members: &[MemberRow], limit: i64) -> Vec<CrowdedRow> {
    let sending = || members.iter().filter(|row| row.state != "gone" && row.host_share > 0);
    let workers = i32::try_from(sending().count()).unwrap_or(i32::MAX);
    let mut least: BTreeMap<&String, i32> = BTreeMap::new();
    for (entry, limit) in sending().flat_map(|row| row.limited.iter().flatten().zip(row.limits.iter().flatten())) {
        least.entry(entry).and_modify(|least| *least = *limit.min(least)).or_insert(*limit);
    }
    let crowded = least.into_iter().filter(|(_, connections)| *connections < workers);
    let rows = crowded.map(|(entry, connections)| CrowdedRow { entry: entry.clone(), connections, workers });
    rows.take(usize::try_from(limit).unwrap_or(0)).collect()
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// All workers, the first to come first.
    pub members: Vec<MemberRow>,
    /// All partitions.
    pub partitions: Vec<PartitionRow>,
    /// Open events by state.
    pub states: Vec<StateRow>,
    /// The entities with the most open events.
    pub busiest: Vec<EntityRow>,
    /// The entities that have been blocked for longest.
    pub blocked: Vec<EntityRow>,
    /// The hosts with the most open events.
    pub hosts: Vec<HostRow>,
    /// Gates that are shut, or have opened lately: those that have been shut for longest.
    pub gates: Vec<ShownGate>,
    /// What is paused.
    pub pauses: Vec<ShownPause>,
    /// The hosts to which nothing has been sent for longest.
    pub withheld: Vec<WithheldRow>,
    /// Entries whose `connections` is passed.
    pub crowded: Vec<CrowdedRow>,
    /// FAILED events within the retention time.
    pub failed: i64,
    /// Dead letters that the broker has not confirmed yet.
    pub unpublished: i64,
}

/// Reads it all in one snapshot; `limit` entities and hosts.
///
/// # Errors
/// sqlx's.
pub async fn read(connection: &mut PgConnection, limit: i64) -> Result<Status, sqlx::Error> {
    let members = members(connection).await?;
    let crowded = crowded(&members, limit);
    let partitions = sqlx::query_as(sql::PARTITIONS).fetch_all(&mut *connection).await?;
    let states = sqlx::query_as(sql::STATES).fetch_all(&mut *connection).await?;
    let mut gates = gates::read(connection, Uuid::nil()).await?;
    let pauses = gates::pauses(connection).await?;
    let standing = gates::standing(&gates, &pauses);
    let busiest = heads(connection, sql::BUSIEST, limit, &standing).await?;
    let blocked = heads(connection, sql::BLOCKED, limit, &standing).await?;
    gates.sort_by(|a, b| {
        (a.state == "open").cmp(&(b.state == "open")).then(b.since_seconds.total_cmp(&a.since_seconds))
    });
    gates.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    let hosts = sqlx::query_as(sql::HOSTS).bind(limit).fetch_all(&mut *connection).await?;
    let withheld = sqlx::query_as(sql::WITHHELD).bind(limit).fetch_all(&mut *connection).await?;
    let (failed, unpublished) = sqlx::query_as(sql::DEAD_LETTERS).fetch_one(connection).await?;
    Ok(Status {
        members,
        partitions,
        states,
        busiest,
        blocked,
        hosts,
        gates,
        pauses,
        withheld,
        crowded,
        failed,
        unpublished,
    })
}

async fn heads(
    connection: &mut PgConnection,
    statement: &'static str,
    limit: i64,
    standing: &Standing,
) -> Result<Vec<EntityRow>, sqlx::Error> {
    let heads: Vec<HeadRow> = sqlx::query_as(statement).bind(limit).fetch_all(connection).await?;
    Ok(heads.into_iter().map(|head| EntityRow::of(head, standing)).collect())
}

/// Whether every partition has an owner.
///
/// # Errors
/// sqlx's; one of them is that no worker has ever run here.
pub async fn is_all_owned(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(sql::IS_ALL_OWNED).fetch_one(connection).await
}

async fn members(connection: &mut PgConnection) -> Result<Vec<MemberRow>, sqlx::Error> {
    sqlx::query_as(sql::MEMBERS).fetch_all(connection).await
}

/// An event that was looked for by its key.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Its number.
    pub id: EventId,
    /// Its partition.
    pub partition: Partition,
    /// Its state.
    pub state: State,
    /// When it became FAILED, in microseconds since 1970.
    pub failed_us: Option<i64>,
}

/// The event with this key.
///
/// # Errors
/// sqlx's.
pub async fn find(connection: &mut PgConnection, key: &str) -> Result<Option<Found>, sqlx::Error> {
    let row: Option<(i64, i32, String, Option<i64>)> =
        sqlx::query_as(sql::FIND).bind(key).fetch_optional(connection).await?;
    row.map(|(id, partition, state, failed_us)| {
        let state = state.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Found { id: EventId(id), partition: Partition(partition), state, failed_us })
    })
    .transpose()
}
