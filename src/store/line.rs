//! Reading events back: the front of a line, retries that are due, what was parked, what a former owner left.

use std::collections::{HashMap, HashSet};

use sqlx::{FromRow, PgConnection};

use super::floor::Floors;
use super::position::{REDRIVEN, UNNUMBERED};
use super::sql::line as sql;
use crate::domain::candidate::Token;
use crate::domain::event::{Entity, EventId, Host, Partition};
use crate::engine::command::Which;

/// Events that one read takes from the front of a line.
pub const LINE_READ: i64 = 4;
/// Bytes of body that one read takes, unless the first event alone has more.
const LINE_READ_BYTES: i64 = 16 * 1024;
/// Bytes of body that one read of parked events takes, unless the first event alone has more.
const PARKED_READ_BYTES: i64 = 4 * 1024 * 1024;

/// Of each partition, so many of a host's oldest events are looked at for the one that has the most attempts left.
const LOOKED_AT_FOR_PROBE: usize = 64;

/// An event as the store keeps it.
#[derive(Clone, Debug, FromRow)]
pub struct StoredEvent {
    /// Its number.
    pub event_id: i64,
    /// Attempts begun so far.
    pub attempts: i16,
    /// Of these, the ones whose outcome is unknown.
    pub unknown: i16,
    /// Its partition.
    pub partition: i32,
    /// Its key.
    pub idempotency_key: String,
    /// Its entity.
    pub entity: String,
    /// Its number in the entity's order.
    pub sequence: Option<i64>,
    /// Where it goes.
    pub destination: String,
    /// The message's properties in wire format.
    pub properties: Vec<u8>,
    /// The body.
    pub body: Vec<u8>,
    /// The `traceparent` under which it was ingested.
    pub trace: Option<String>,
    /// When it was recorded: milliseconds since 1970.
    pub recorded_ms: i64,
}

/// The front of a line: events to be sent one after the other, and whether the line goes on behind them.
#[derive(Debug)]
pub struct Front {
    /// Whose line.
    pub entity: Entity,
    /// In order.
    pub events: Vec<StoredEvent>,
    /// There are more, though perhaps behind a gap.
    pub more: bool,
}

#[derive(FromRow)]
struct FrontRow {
    state: String,
    position: i64,
    next_sequence: Option<i64>,
    goes_on: bool,
    #[sqlx(flatten)]
    event: StoredEvent,
}

/// Reads the fronts of lines, after their heads became final: one for each entity.
///
/// # Errors
/// sqlx's.
pub async fn read_fronts(
    connection: &mut PgConnection,
    entities: &[&Entity],
    floors: &Floors,
) -> Result<Vec<Front>, sqlx::Error> {
    let entities: HashSet<&Entity> = entities.iter().copied().collect();
    let (positions, ids) = floors.of(entities.iter().copied());
    let rows: Vec<FrontRow> = sqlx::query_as(sql::READ_FRONTS)
        .bind(entities.iter().map(|entity| entity.as_str()).collect::<Vec<_>>())
        .bind(LINE_READ)
        .bind(LINE_READ_BYTES)
        .bind(REDRIVEN)
        .bind(positions)
        .bind(ids)
        .fetch_all(connection)
        .await?;
    let mut lines: HashMap<String, Vec<FrontRow>> = HashMap::new();
    for row in rows {
        lines.entry(row.event.entity.clone()).or_default().push(row);
    }
    let front_of = |entity| front(entity, lines.remove(Entity::as_str(entity)).unwrap_or_default());
    Ok(entities.into_iter().map(front_of).collect())
}

fn front(entity: &Entity, rows: Vec<FrontRow>) -> Front {
    let runnable = runnable(&rows);
    let more = rows.len() > runnable || rows.last().is_some_and(|row| row.goes_on);
    let events = rows.into_iter().take(runnable).map(|row| row.event).collect();
    Front { entity: entity.clone(), events, more }
}

/// How many can be sent one after the other: those that are PENDING, up to a gap. A redriven event has no position
/// among the numbers any more.
fn runnable(rows: &[FrontRow]) -> usize {
    let mut expected = rows.first().and_then(|row| row.next_sequence);
    let in_turn = |row: &&FrontRow| {
        let numbered = row.position > UNNUMBERED;
        let in_turn = !numbered || Some(row.position) == expected;
        if numbered {
            expected = Some(row.position.saturating_add(1));
        }
        in_turn && row.state == "PENDING"
    };
    rows.iter().take_while(in_turn).count()
}

/// What a wake-up finds.
#[derive(Debug)]
pub enum Woken {
    /// The attempt is due.
    Due {
        /// The event.
        event: StoredEvent,
        /// Milliseconds since the last attempt was settled.
        waited_ms: i64,
        /// Milliseconds since the attempt became due.
        late_ms: i64,
    },
    /// It is due after so many milliseconds.
    Early {
        /// Which.
        token: Token,
        /// Its partition.
        partition: Partition,
        /// Milliseconds from now.
        millis: i64,
    },
}

/// An event that a token names.
#[derive(FromRow)]
struct Waiting {
    event_id: i64,
    attempts: i16,
    partition: i32,
    /// Milliseconds until it is due.
    early_ms: i64,
}

#[derive(FromRow)]
struct DueRow {
    waited_ms: i64,
    late_ms: i64,
    #[sqlx(flatten)]
    event: StoredEvent,
}

/// Retries whose attempt may start this much early: less than a tick, so that no round through the ladder is needed.
const SLACK_MS: i64 = 20;

/// Looks at the events that tokens name. Void tokens find nothing.
///
/// # Errors
/// sqlx's.
pub async fn wake(connection: &mut PgConnection, tokens: &[Token]) -> Result<Vec<Woken>, sqlx::Error> {
    let ids: Vec<i64> = tokens.iter().map(|token| token.id.0).collect();
    let attempts: Vec<i16> = tokens.iter().map(|token| i16::try_from(token.attempts).unwrap_or(i16::MAX)).collect();
    let waits: Vec<Waiting> = sqlx::query_as(sql::WAITING).bind(ids).bind(attempts).fetch_all(&mut *connection).await?;
    let due: Vec<i64> = waits.iter().filter(|waiting| waiting.early_ms <= SLACK_MS).map(|w| w.event_id).collect();
    let rows: Vec<DueRow> = sqlx::query_as(sql::DUE).bind(due).fetch_all(connection).await?;
    let due = rows.into_iter().map(|DueRow { waited_ms, late_ms, event }| Woken::Due { event, waited_ms, late_ms });
    let early = waits.into_iter().filter(|waiting| waiting.early_ms > SLACK_MS).map(|waiting| Woken::Early {
        token: Token { id: EventId(waiting.event_id), attempts: u16::try_from(waiting.attempts).unwrap_or_default() },
        partition: Partition(waiting.partition),
        millis: waiting.early_ms,
    });
    Ok(due.chain(early).collect())
}

/// Reads some of a host's parked events and takes the mark from them, but none of the entities in `but`; true if there may be
/// more.
///
/// # Errors
/// sqlx's.
pub async fn unpark(
    connection: &mut PgConnection,
    partitions: &[i32],
    host: &Host,
    which: Which,
    but: &[Entity],
) -> Result<(Vec<StoredEvent>, bool), sqlx::Error> {
    let but: Vec<&str> = but.iter().map(Entity::as_str).collect();
    let (looked_at, taken) = match which {
        Which::First(limit) => (limit, limit),
        Which::Probe => (LOOKED_AT_FOR_PROBE, 1),
        Which::ProbeNewest => {
            let newest = sqlx::query_as(sql::UNPARK_NEWEST).bind(partitions).bind(host.as_str()).bind(but);
            let newest: Vec<StoredEvent> = newest.fetch_all(connection).await?;
            let more = !newest.is_empty();
            return Ok((newest, more));
        }
    };
    let mut events: Vec<StoredEvent> = sqlx::query_as(sql::UNPARK)
        .bind(partitions)
        .bind(host.as_str())
        .bind(i64::try_from(looked_at).unwrap_or(i64::MAX))
        .bind(PARKED_READ_BYTES)
        .bind(i64::try_from(taken).unwrap_or(i64::MAX))
        .bind(which == Which::Probe)
        .bind(but)
        .fetch_all(connection)
        .await?;
    events.sort_by_key(|event| event.event_id);
    // Any number but none may have been cut short by the limits.
    let more = !events.is_empty();
    Ok((events, more))
}

/// Marks events as waiting for their host in the store.
///
/// # Errors
/// sqlx's.
pub async fn park(connection: &mut PgConnection, ids: &[EventId]) -> Result<(), sqlx::Error> {
    sqlx::query(sql::PARK).bind(ids.iter().map(|id| id.0).collect::<Vec<_>>()).execute(connection).await.map(drop)
}

/// Attempts that a former owner of the partition left in flight; as many as one worker may have. Without their bodies: nothing
/// is sent of them, and all of them together may be large.
///
/// # Errors
/// sqlx's.
pub async fn left_in_flight(
    connection: &mut PgConnection,
    partition: Partition,
) -> Result<Vec<StoredEvent>, sqlx::Error> {
    sqlx::query_as(sql::LEFT_IN_FLIGHT).bind(partition.0).fetch_all(connection).await
}

/// Those of the events whose attempt is recorded as in flight, without their bodies.
///
/// # Errors
/// sqlx's.
pub async fn in_flight(connection: &mut PgConnection, ids: &[i64]) -> Result<Vec<StoredEvent>, sqlx::Error> {
    sqlx::query_as(sql::IN_FLIGHT).bind(ids).fetch_all(connection).await
}

/// Parks every PENDING head of a partition: what a former owner held in memory is then found host by host, like
/// anything that waits in the store.
///
/// # Errors
/// sqlx's.
pub async fn park_heads(connection: &mut PgConnection, partition: Partition) -> Result<u64, sqlx::Error> {
    let parked = sqlx::query(sql::PARK_HEADS).bind(partition.0).execute(connection).await?;
    Ok(parked.rows_affected())
}

/// Hosts that have parked events in these partitions; at most `limit`.
///
/// # Errors
/// sqlx's.
pub async fn parked_hosts(
    connection: &mut PgConnection,
    partitions: &[i32],
    limit: i64,
) -> Result<Vec<Host>, sqlx::Error> {
    let rows: Vec<(String,)> =
        sqlx::query_as(sql::PARKED_HOSTS).bind(partitions).bind(limit).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(host,)| Host::from(host)).collect())
}

/// A retry whose time is over.
#[derive(Clone, Debug, FromRow)]
pub struct Overdue {
    /// The event.
    pub event_id: i64,
    /// Attempts begun so far.
    pub attempts: i16,
    /// Its partition.
    pub partition: i32,
    /// Its entity.
    pub entity: String,
    /// When it was due, in microseconds since 1970.
    pub due_us: i64,
}

impl Overdue {
    /// Where the next look goes on, so that retries that can't begin yet don't hide those behind them.
    #[must_use]
    pub fn place(&self) -> (i64, i64) {
        (self.due_us, self.event_id)
    }
}

/// Retries that are overdue by more than `late_ms`, behind a place in their order: their token was lost, or is on its way.
///
/// # Errors
/// sqlx's.
pub async fn overdue(
    connection: &mut PgConnection,
    partitions: &[i32],
    late_ms: i64,
    (due_us, event_id): (i64, i64),
    limit: i64,
) -> Result<Vec<Overdue>, sqlx::Error> {
    sqlx::query_as(sql::OVERDUE)
        .bind(partitions)
        .bind(late_ms)
        .bind(limit)
        .bind(due_us)
        .bind(event_id)
        .fetch_all(connection)
        .await
}
