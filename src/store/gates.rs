//! Gates and pauses in the database: the same for all workers.
//!
//! What becomes of a gate is decided by [`Gate::after`]; here it is read, and written if nobody else was faster.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use serde::Serialize;
use sqlx::postgres::PgPool;
use sqlx::{Connection as _, FromRow, PgConnection};
use uuid::Uuid;

use super::listener::Listener;
use super::sql::gates as sql;
use super::sql::members::TELL;
use crate::domain::event::{Entity, Host};
use crate::domain::gate::{Change, Gate, GatePolicy, GateState};
use crate::engine::hosts::gates::{GateChange, Paused, Standing};

/// What workers tell each other over that a gate or a pause has changed.
const CHANNEL: &str = "onceward_gates";
/// The most gates that are recorded; a host beyond these has none, and its events are sent as if it were well.
pub const MOST_GATES: i64 = 10_000;
/// The most pauses.
pub const MOST_PAUSES: i64 = 1_000;
/// The longest reason that is kept, in characters.
const LONGEST_REASON: usize = 300;
/// A gate that nobody has had anything to probe with for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);
/// Who pauses a host that answers 410 Gone.
const BY: &str = "onceward worker";
/// Why.
const GONE: &str = "the receiver answered 410 Gone: it wants no more events";

#[derive(FromRow)]
struct GateRow {
    host: String,
    state: String,
    version: i64,
    probes: i32,
    since_ms: i64,
    next_ms: i64,
    reason: String,
}

impl GateRow {
    fn gate(&self) -> Option<Gate> {
        Some(Gate {
            state: GateState::read_back(&self.state)?,
            probes: u16::try_from(self.probes).unwrap_or(u16::MAX),
            since: from_millis(self.since_ms),
            next: from_millis(self.next_ms),
            reason: self.reason.clone(),
        })
    }
}

/// Records changes of gates, one for each host. Gives the hosts of those that have changed anything, with the gate as it is now.
///
/// # Errors
/// sqlx's.
pub async fn change(
    connection: &mut PgConnection,
    member: Uuid,
    changes: &[GateChange],
) -> Result<Vec<(Host, Gate)>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let hosts: Vec<&str> = changes.iter().map(|change| change.host.as_str()).collect();
    let rows: Vec<GateRow> = sqlx::query_as(sql::LOCK).bind(&hosts).fetch_all(&mut *transaction).await?;
    let now: i64 = sqlx::query_scalar(sql::NOW).fetch_one(&mut *transaction).await?;
    let known: HashMap<&str, &GateRow> = rows.iter().map(|row| (row.host.as_str(), row)).collect();
    let (mut there, mut new) = (Vec::new(), Vec::new());
    for GateChange { host, change, policy } in changes {
        let row = known.get(host.as_str());
        let before = row.and_then(|row| row.gate());
        let Some(gate) = Gate::after(before.as_ref(), change, policy, seed(host), from_millis(now)) else { continue };
        match row {
            Some(row) => there.push((host.clone(), gate, row.version)),
            None => new.push((host.clone(), gate, 0)),
        }
    }
    let mut changed: HashSet<String> = update(&mut transaction, member, &there).await?;
    changed.extend(insert(&mut transaction, &new).await?);
    let gone: Vec<&str> = changes.iter().filter(|c| c.change == Change::Gone).map(|c| c.host.as_str()).collect();
    if !gone.is_empty() {
        let pausing = sqlx::query(sql::PAUSE_GONE).bind(&gone).bind(GONE).bind(BY).bind(MOST_PAUSES);
        pausing.execute(&mut *transaction).await?;
    }
    let bear: Vec<(&str, i32)> = changes.iter().filter_map(bears).collect();
    if !bear.is_empty() {
        let (hosts, most): (Vec<&str>, Vec<i32>) = bear.iter().copied().unzip();
        sqlx::query(sql::BEAR).bind(hosts).bind(most).bind(MOST_GATES).execute(&mut *transaction).await?;
    }
    if !changed.is_empty() || !gone.is_empty() || !bear.is_empty() {
        tell(&mut transaction).await?;
    }
    transaction.commit().await?;
    let gates = there.into_iter().chain(new).map(|(host, gate, _)| (host, gate));
    Ok(gates.filter(|(host, _)| changed.contains(host.as_str())).collect())
}

fn bears(change: &GateChange) -> Option<(&str, i32)> {
    match change.change {
        Change::Bears(most) => Some((change.host.as_str(), i32::try_from(most).unwrap_or(i32::MAX))),
        _ => None,
    }
}

/// What hosts bear: each with its limit, and the number of that record.
///
/// # Errors
/// sqlx's.
pub async fn bearing(connection: &mut PgConnection) -> Result<HashMap<Host, (usize, i64)>, sqlx::Error> {
    let rows: Vec<(String, i32, i64)> = sqlx::query_as(sql::BEARING).bind(MOST_GATES).fetch_all(connection).await?;
    let bear = |(host, most, version)| (Host::from(host), (usize::try_from(most).unwrap_or(1), version));
    Ok(rows.into_iter().map(bear).collect())
}

/// Gates as they are now, and their versions before.
type Written = [(Host, Gate, i64)];

async fn update(connection: &mut PgConnection, member: Uuid, gates: &Written) -> Result<HashSet<String>, sqlx::Error> {
    if gates.is_empty() {
        return Ok(HashSet::new());
    }
    let Columns { hosts, states, probes, since, next, reasons } = Columns::of(gates);
    let versions: Vec<i64> = gates.iter().map(|(.., version)| *version).collect();
    let updated = sqlx::query_scalar(sql::UPDATE)
        .bind(hosts)
        .bind(states)
        .bind(probes)
        .bind(since)
        .bind(next)
        .bind(reasons)
        .bind(versions)
        .bind(member);
    Ok(updated.fetch_all(connection).await?.into_iter().collect())
}

async fn insert(connection: &mut PgConnection, gates: &Written) -> Result<Vec<String>, sqlx::Error> {
    if gates.is_empty() {
        return Ok(Vec::new());
    }
    let Columns { hosts, states, probes, since, next, reasons } = Columns::of(gates);
    let inserted = sqlx::query_scalar(sql::INSERT)
        .bind(hosts)
        .bind(states)
        .bind(probes)
        .bind(since)
        .bind(next)
        .bind(reasons)
        .bind(MOST_GATES);
    inserted.fetch_all(connection).await
}

/// Gates as columns.
struct Columns<'a> {
    hosts: Vec<&'a str>,
    states: Vec<&'static str>,
    probes: Vec<i32>,
    since: Vec<i64>,
    next: Vec<i64>,
    reasons: Vec<String>,
}

impl<'a> Columns<'a> {
    fn of(gates: &'a Written) -> Self {
        let each = || gates.iter().map(|(_, gate, _)| gate);
        // A text can't hold zeros.
        let cut = |reason: &str| reason.chars().filter(|letter| *letter != '\0').take(LONGEST_REASON).collect();
        Self {
            hosts: gates.iter().map(|(host, ..)| host.as_str()).collect(),
            states: each().map(|gate| gate.state.name()).collect(),
            probes: each().map(|gate| gate.probes.into()).collect(),
            since: each().map(|gate| millis(gate.since)).collect(),
            next: each().map(|gate| millis(gate.next)).collect(),
            reasons: each().map(|gate| cut(&gate.reason)).collect(),
        }
    }
}

/// The same for all workers, and another for each host (FNV-1a).
fn seed(host: &Host) -> u64 {
    let mixed = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    host.as_str().as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, mixed)
}

/// Hosts that may be probed now, for which events of these partitions wait, but for those of the paused entities; `limit` at
/// most.
///
/// # Errors
/// sqlx's.
pub async fn claimable(
    connection: &mut PgConnection,
    partitions: &[i32],
    paused: &[Entity],
    limit: i64,
) -> Result<Vec<Host>, sqlx::Error> {
    let paused: Vec<&str> = paused.iter().map(Entity::as_str).collect();
    let claimable = sqlx::query_scalar(sql::CLAIMABLE).bind(partitions).bind(paused).bind(limit);
    let hosts: Vec<String> = claimable.fetch_all(connection).await?;
    Ok(hosts.into_iter().map(Host::from).collect())
}

/// What changes with every change of a gate or a pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromRow)]
pub struct Seen(i64, i64, i64, i64, i64);

/// What has been seen if everything is read now.
///
/// # Errors
/// sqlx's.
pub async fn seen(connection: &mut PgConnection) -> Result<Seen, sqlx::Error> {
    sqlx::query_as(sql::SEEN).fetch_one(connection).await
}

/// A gate, as people and programs see it.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct ShownGate {
    /// `host:port`, or the name of a destination.
    pub host: String,
    /// `shut`, `probing`, or `open` if it has opened lately.
    pub state: String,
    /// Grows with each change.
    #[serde(skip)]
    pub version: i64,
    /// The worker that asks is the one that probes.
    #[serde(skip)]
    pub ours: bool,
    /// Probes that have failed, one after the other.
    pub probes: i32,
    /// What was wrong last.
    pub reason: String,
    /// Seconds since it was shut.
    pub since_seconds: f64,
    /// Seconds until it may be probed; negative if it may be, and nothing waits that could.
    pub until_seconds: f64,
}

/// A pause, as people and programs see it.
#[derive(Clone, Debug, FromRow, Serialize)]
pub struct ShownPause {
    /// `everything`, `host`, or `entity`.
    pub scope: String,
    /// Of the host or the entity; empty for everything.
    pub name: String,
    /// Why.
    pub why: String,
    /// Who.
    pub by: String,
    /// Seconds since then.
    pub since_seconds: f64,
    /// Seconds until it ends, if it does by itself.
    pub until_seconds: Option<f64>,
}

/// All gates that are not open, or have opened lately, as a worker sees them.
///
/// # Errors
/// sqlx's.
pub async fn read(connection: &mut PgConnection, member: Uuid) -> Result<Vec<ShownGate>, sqlx::Error> {
    sqlx::query_as(sql::STANDING).bind(member).bind(MOST_GATES).fetch_all(connection).await
}

/// What is paused.
///
/// # Errors
/// sqlx's.
pub async fn pauses(connection: &mut PgConnection) -> Result<Vec<ShownPause>, sqlx::Error> {
    sqlx::query_as(sql::PAUSES).bind(MOST_PAUSES).fetch_all(connection).await
}

/// What the engine is told of what was read.
#[must_use]
pub fn standing(gates: &[ShownGate], pauses: &[ShownPause]) -> Standing {
    let mut standing = Standing { paused: paused(pauses), ..Standing::default() };
    for gate in gates {
        let host = Host::from(gate.host.as_str());
        match GateState::read_back(&gate.state) {
            Some(GateState::Open) => drop(standing.opening.insert(host)),
            _ if gate.ours => drop(standing.ours.insert(host, gate.version)),
            _ => drop(standing.shut.insert(host)),
        }
    }
    standing
}

fn paused(pauses: &[ShownPause]) -> Paused {
    let mut paused = Paused::default();
    for pause in pauses {
        match pause.scope.as_str() {
            "host" => drop(paused.hosts.insert(pause.name.as_str().into())),
            "entity" => drop(paused.entities.insert(pause.name.as_str().into())),
            _ => paused.everything = true,
        }
    }
    paused
}

/// What an operator pauses and resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of it.
    Everything,
    /// A host, `host:port`, or the destination of that name.
    Host(Host),
    /// An entity.
    Entity(Entity),
}

impl Scope {
    /// Whether a pause is of this.
    #[must_use]
    pub fn is_of(&self, pause: &ShownPause) -> bool {
        self.columns() == (pause.scope.as_str(), pause.name.as_str())
    }

    fn columns(&self) -> (&'static str, &str) {
        match self {
            Self::Everything => ("everything", ""),
            Self::Host(host) => ("host", host.as_str()),
            Self::Entity(entity) => ("entity", entity.as_str()),
        }
    }
}

/// Pauses something, for a time if there is one. What is paused already is paused anew.
///
/// # Errors
/// sqlx's.
pub async fn pause(
    connection: &mut PgConnection,
    scope: &Scope,
    lasts: Option<Duration>,
    (why, by): (&str, &str),
) -> Result<(), sqlx::Error> {
    let (scope, name) = scope.columns();
    let pausing = sqlx::query(sql::PAUSE).bind(scope).bind(name).bind(why).bind(by).bind(lasts.map(millis));
    pausing.execute(&mut *connection).await?;
    tell(connection).await
}

/// Resumes what was paused. Gives why it was, and by whom; none if it was not.
///
/// # Errors
/// sqlx's.
pub async fn resume(connection: &mut PgConnection, scope: &Scope) -> Result<Option<(String, String)>, sqlx::Error> {
    let (scope, name) = scope.columns();
    let resumed = sqlx::query_as(sql::RESUME).bind(scope).bind(name).fetch_optional(&mut *connection).await?;
    tell(connection).await?;
    Ok(resumed)
}

/// Whether anything is known of a host: a gate, or an open event.
///
/// # Errors
/// sqlx's.
pub async fn is_known(connection: &mut PgConnection, host: &Host) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(sql::IS_KNOWN).bind(host.as_str()).fetch_one(connection).await
}

/// Opens a gate that is shut, as if its host had answered. False if it was not shut.
///
/// # Errors
/// sqlx's.
pub async fn open(connection: &mut PgConnection, host: &Host) -> Result<bool, sqlx::Error> {
    let passed = GateChange { host: host.clone(), change: Change::Passed, policy: GatePolicy::default() };
    // Who probes matters to a claim alone.
    Ok(!change(connection, Uuid::nil(), &[passed]).await?.is_empty())
}

/// What waits for a host in the store.
#[derive(Clone, Debug, FromRow)]
pub struct WaitingRow {
    /// The host.
    pub host: String,
    /// Entities, a few hundred of a partition at most.
    pub entities: i64,
    /// Seconds since the oldest of their first events was recorded.
    pub oldest_seconds: Option<f64>,
}

/// What waits for hosts in these partitions; entities up to `limit` of each partition.
///
/// # Errors
/// sqlx's.
pub async fn waiting(
    connection: &mut PgConnection,
    hosts: &[&str],
    partitions: &[i32],
    limit: i64,
) -> Result<Vec<WaitingRow>, sqlx::Error> {
    sqlx::query_as(sql::WAITING).bind(hosts).bind(partitions).bind(limit).fetch_all(connection).await
}

/// Forgets what is over.
///
/// # Errors
/// sqlx's.
pub async fn forget(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(sql::FORGET).bind(millis(FORGOTTEN_AFTER)).execute(connection).await.map(drop)
}

async fn tell(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query(TELL).bind(CHANNEL).execute(connection).await.map(drop)
}

/// A connection that hears of changes.
///
/// # Errors
/// sqlx's.
pub async fn listen(pool: &PgPool) -> Result<Listener, sqlx::Error> {
    Listener::connect(pool, CHANNEL).await
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn from_millis(millis: i64) -> Duration {
    Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}
