//! Reading events back: the front of a line, retries that are due, what was parked, what a former owner left.
//!
//! `offset 0` keeps each look-up by key a look-up by key, also in a plan that was made while the tables were empty: the
//! planner can't make a join of it.

use std::collections::{HashMap, HashSet};

use sqlx::{FromRow, PgConnection};

use super::floor::Floors;
use super::position::{REDRIVEN, UNNUMBERED};
use crate::domain::candidate::Token;
use crate::domain::event::{Entity, EventId, Host, Partition};

/// Events that one read takes from the front of a line.
pub const LINE_READ: i64 = 4;
/// Bytes of body that one read takes, unless the first event alone has more.
const LINE_READ_BYTES: i64 = 16 * 1024;
/// Bytes of body that one read of parked events takes, unless the first event alone has more.
const PARKED_READ_BYTES: i64 = 4 * 1024 * 1024;

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
    /// The `traceparent` under which it was taken in.
    pub trace: Option<String>,
    /// When it was recorded: milliseconds since 1970.
    pub recorded_ms: i64,
}

macro_rules! stored_columns {
    () => {
        "o.event_id, o.attempts, o.unknown, o.partition, e.idempotency_key, o.entity, e.sequence, e.destination, e.properties, \
         e.body, e.trace, (extract(epoch from e.recorded_at) * 1000)::int8 as recorded_ms"
    };
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
    // A window over the narrow table chooses the rows before any body is read.
    let rows: Vec<FrontRow> = sqlx::query_as(concat!(
        "select o.state, o.position, s.next_sequence, f.goes_on, ",
        stored_columns!(),
        " from unnest($1::text[], $5::int8[], $6::int8[]) as a (line, floor_position, floor_id) \
         cross join lateral (select event_id, position, row_number() over w as place, \
         sum(body_bytes) over w - body_bytes as bytes_before, lead(event_id) over w is not null as goes_on \
         from (select * from ( \
         (select event_id, position, body_bytes from open_event where entity = a.line and position = $4 \
         order by event_id + 0 limit $2 + 1) union all \
         (select event_id, position, body_bytes from open_event where entity = a.line \
         and (position, event_id + 0) > (a.floor_position, a.floor_id) order by position, event_id + 0 limit $2 + 1)) o \
         order by position, event_id limit $2 + 1) line window w as (order by position, event_id)) f \
         cross join lateral (select * from open_event where event_id = f.event_id offset 0) o \
         cross join lateral (select * from event where id = f.event_id offset 0) e \
         left join lateral (select * from entity_sequence where entity = a.line offset 0) s on true \
         where f.place = 1 or (f.place <= $2 and f.bytes_before < $3) order by f.place"
    ))
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
    let waits: Vec<Waiting> = sqlx::query_as(
        "select o.event_id, o.attempts, o.partition, \
         (extract(epoch from o.due_at - clock_timestamp()) * 1000)::int8 as early_ms \
         from (select ($1::int8[])[i] as event_id, ($2::int2[])[i] as attempts from generate_subscripts($1, 1) i) t \
         join open_event o on o.event_id = t.event_id and o.attempts = t.attempts \
         where o.event_id = any($1) and o.state = 'RETRY_WAIT' and not o.parked",
    )
    .bind(ids)
    .bind(attempts)
    .fetch_all(&mut *connection)
    .await?;
    let due: Vec<i64> = waits.iter().filter(|waiting| waiting.early_ms <= SLACK_MS).map(|w| w.event_id).collect();
    let rows: Vec<DueRow> = sqlx::query_as(concat!(
        "select (extract(epoch from clock_timestamp() - o.changed_at) * 1000)::int8 as waited_ms, \
         (extract(epoch from clock_timestamp() - o.due_at) * 1000)::int8 as late_ms, ",
        stored_columns!(),
        " from open_event o cross join lateral (select * from event where id = o.event_id offset 0) e \
         where o.event_id = any($1) and o.due_at is not null"
    ))
    .bind(due)
    .fetch_all(connection)
    .await?;
    let due = rows.into_iter().map(|DueRow { waited_ms, late_ms, event }| Woken::Due { event, waited_ms, late_ms });
    let early = waits.into_iter().filter(|waiting| waiting.early_ms > SLACK_MS).map(|waiting| Woken::Early {
        token: Token { id: EventId(waiting.event_id), attempts: u16::try_from(waiting.attempts).unwrap_or_default() },
        partition: Partition(waiting.partition),
        millis: waiting.early_ms,
    });
    Ok(due.chain(early).collect())
}

/// Reads up to `limit` of a host's parked events and takes the mark from them; true if there may be more.
///
/// # Errors
/// sqlx's.
pub async fn unpark(
    connection: &mut PgConnection,
    partitions: &[i32],
    host: &Host,
    limit: usize,
) -> Result<(Vec<StoredEvent>, bool), sqlx::Error> {
    let mut events: Vec<StoredEvent> = sqlx::query_as(concat!(
        "with chosen as (select event_id, sum(body_bytes) over (order by event_id) - body_bytes as bytes_before \
         from (select p.event_id, p.body_bytes from unnest($1::int4[]) as a (partition) \
         cross join lateral (select event_id, body_bytes from open_event where parked and partition = a.partition \
         and host = $2 order by event_id + 0 limit $3) p order by p.event_id limit $3) first), \
         unparked as (update open_event o set parked = false from chosen c \
         where o.event_id = any(array(select event_id from chosen)) and o.event_id = c.event_id \
         and (c.bytes_before = 0 or c.bytes_before < $4) returning o.*) \
         select ",
        stored_columns!(),
        " from unparked o cross join lateral (select * from event where id = o.event_id offset 0) e"
    ))
    .bind(partitions)
    .bind(host.as_str())
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .bind(PARKED_READ_BYTES)
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
    sqlx::query("update open_event set parked = true where event_id = any($1) and state in ('PENDING', 'RETRY_WAIT')")
        .bind(ids.iter().map(|id| id.0).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
}

macro_rules! without_body {
    () => {
        "select o.event_id, o.attempts, o.unknown, o.partition, e.idempotency_key, o.entity, e.sequence, e.destination, \
         e.properties, ''::bytea as body, e.trace, (extract(epoch from e.recorded_at) * 1000)::int8 as recorded_ms \
         from open_event o cross join lateral (select * from event where id = o.event_id offset 0) e \
         where o.state = 'IN_FLIGHT' and "
    };
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
    sqlx::query_as(concat!(without_body!(), "o.partition = $1 order by o.event_id"))
        .bind(partition.0)
        .fetch_all(connection)
        .await
}

/// Those of the events whose attempt is recorded as in flight, without their bodies.
///
/// # Errors
/// sqlx's.
pub async fn in_flight(connection: &mut PgConnection, ids: &[i64]) -> Result<Vec<StoredEvent>, sqlx::Error> {
    sqlx::query_as(concat!(without_body!(), "o.event_id = any($1)")).bind(ids).fetch_all(connection).await
}

/// Parks every PENDING head of a partition: what a former owner held in memory is then found host by host, like
/// anything that waits in the store.
///
/// # Errors
/// sqlx's.
pub async fn park_heads(connection: &mut PgConnection, partition: Partition) -> Result<u64, sqlx::Error> {
    let parked = sqlx::query(
        "update open_event o set parked = true where o.partition = $1 and o.state = 'PENDING' and not o.parked \
         and not exists (select from open_event p where p.entity = o.entity \
         and (p.position, p.event_id + 0) < (o.position, o.event_id) offset 0) and (o.position < 0 or exists \
         (select from entity_sequence s where s.entity = o.entity and s.next_sequence = o.position))",
    )
    .bind(partition.0)
    .execute(connection)
    .await?;
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
    // One index look-up for each host of each partition, however many events are parked.
    let rows: Vec<(String,)> = sqlx::query_as(
        "with recursive step (partition, host) as ( \
         select p.id, (select min(host) from open_event where parked and partition = p.id) \
         from unnest($1::int4[]) as p (id) \
         union all \
         select s.partition, (select min(host) from open_event where parked and partition = s.partition \
         and host > s.host) from step s where s.host is not null) \
         select distinct host from step where host is not null limit $2",
    )
    .bind(partitions)
    .bind(limit)
    .fetch_all(connection)
    .await?;
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
    sqlx::query_as(
        "select event_id, attempts, partition, entity, (extract(epoch from due_at) * 1000000)::int8 as due_us \
         from open_event where partition = any($1) and not parked and state = 'RETRY_WAIT' \
         and due_at < clock_timestamp() - $2 * interval '1 ms' \
         and (due_at, event_id) > (timestamptz 'epoch' + $4 * interval '1 microsecond', $5) \
         order by due_at, event_id limit $3",
    )
    .bind(partitions)
    .bind(late_ms)
    .bind(limit)
    .bind(due_us)
    .bind(event_id)
    .fetch_all(connection)
    .await
}
