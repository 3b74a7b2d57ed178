//! Updates: what an older worker left, a newer one delivers; and what a newer one has changed, an older one survives.

use std::collections::HashSet;
use std::path::Path;

use onceward::broker::wire;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use tokio::sync::watch;

use crate::support::{
    Check, Database, DeadLetters, Load, Message, Producer, Receiver, SOON, Worker, World, run_to_end, test,
};

const VERSION: &str = env!("CARGO_PKG_VERSION");
const MIGRATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/store/migrations");

async fn migrator() -> Migrator {
    Migrator::new(Path::new(MIGRATIONS)).await.expect("the migrations")
}

async fn connect(world: &World) -> PgConnection {
    PgConnection::connect(&world.database_url).await.expect("the database answers")
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    connection.execute(AssertSqlSafe(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// An open event: entity and key, its number if it has one, its state, the attempts begun, and when the next is due.
type Left = (&'static str, &'static str, Option<i64>, &'static str, i16, Option<&'static str>);

/// Each state, as the head of a line and with some behind it.
const LEFT: [Left; 11] = [
    ("pending", "pending-1", None, "PENDING", 0, None),
    ("pending", "pending-2", None, "PENDING", 0, None),
    ("sent", "sent-1", None, "IN_FLIGHT", 1, None),
    ("sent", "sent-2", None, "PENDING", 0, None),
    ("late", "late-1", None, "RETRY_WAIT", 2, Some("-1 minute")),
    ("late", "late-2", None, "PENDING", 0, None),
    ("early", "early-1", None, "RETRY_WAIT", 1, Some("300 milliseconds")),
    ("numbered", "numbered-5", Some(5), "PENDING", 0, None),
    ("numbered", "numbered-4", Some(4), "IN_FLIGHT", 1, None),
    ("held", "held-1", None, "FAILED", 5, None),
    ("held", "held-2", None, "PENDING", 0, None),
];

/// What a worker of the schema before the last one left when it was killed.
async fn leave(world: &World, destination: &str) {
    let mut connection = connect(world).await;
    let migrator = migrator().await;
    let versions: Vec<_> = migrator.iter().map(|migration| migration.version).collect();
    migrator.run_to(versions[versions.len() - 2], &mut connection).await.expect("the schema before the last one");
    execute(&mut connection, "insert into cluster (partitions, exchange) values (4, 'events')").await;
    execute(&mut connection, "insert into entity_sequence values ('numbered', 4)").await;
    let host = destination.trim_start_matches("http://").split('/').next().expect("a host");
    for (entity, key, sequence, state, attempts, due) in LEFT {
        let sql = "with recorded as (insert into event (idempotency_key, digest, partition, entity, sequence, \
            destination, properties, body) values ($1, '\\x00', 1, $2, $3, $4, $9, 'body') returning id) \
            insert into open_event (event_id, partition, entity, position, host, body_bytes, state, attempts, due_at) \
            select id, 1, $2, coalesce($3, -1), $5, 4, $6, $7, clock_timestamp() + $8::interval from recorded";
        let query = sqlx::query(sql).bind(key).bind(entity).bind(sequence).bind(destination).bind(host);
        let message = Message::new(entity, key, destination);
        let message = sequence.into_iter().fold(message, Message::sequence);
        let query = query.bind(state).bind(attempts).bind(due).bind(wire::encode(&message.properties()).to_vec());
        query.execute(&mut connection).await.expect("an open event");
    }
    let failed = "insert into dead_letter (event_id, partition, reason, failed_at) \
        select event_id, partition, 'exhausted', '2000-01-01' from open_event where state = 'FAILED'";
    execute(&mut connection, failed).await;
    connection.close().await.expect("a close in peace");
}

#[test]
fn what_a_worker_of_the_schema_before_has_left_open_is_delivered_in_order() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        leave(world, &receiver.url()).await;
        let worker = Worker::start(world, &["--on-exhausted", "hold"]).await;
        let dead_letters = DeadLetters::open(world).await;
        receiver.wait_for_delivered(SOON, LEFT.len() - 2).await;
        assert_eq!(limit_of_returns(world, "events.due.0").await, None, "as the earlier program has declared it");
        assert_eq!(dead_letters.wait_for_key(SOON, "held-1").await.reason(), "exhausted");
        let (code, text) = run_to_end(world, &["redrive", "held-1"]).await;
        assert_eq!(code, 0, "{text}");
        receiver.wait_for_delivered(SOON, LEFT.len()).await;
        // What comes in now joins the lines that were there.
        let producer = Producer::connect(world).await;
        producer.publish(&Message::new("numbered", "numbered-6", &receiver.url()).sequence(6)).await;
        producer.publish(&Message::new("pending", "pending-2", &receiver.url())).await;
        receiver.wait_for_key(SOON, "numbered-6").await;
        assert_eq!(dead_letters.wait_for_key(SOON, "pending-2").await.reason(), "key_conflict");
        worker.stop().await;
        let database = Database::connect(world).await;
        let check = Check::new(receiver.attempts(), 7);
        check.order(&database.lines().await).nothing_resent();
        let numbers: HashSet<_> =
            receiver.attempts().into_iter().map(|attempt| (attempt.key, attempt.number)).collect();
        for begun in [("sent-1", 2), ("late-1", 3), ("early-1", 2), ("numbered-4", 2), ("pending-1", 1)] {
            assert!(numbers.contains(&(begun.0.to_owned(), begun.1)), "{begun:?}: {numbers:?}");
        }
    });
}

/// Stands for a newer program: its schema has a migration more.
async fn add_a_newer_migration(connection: &mut PgConnection) {
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
        values (9000, 'from a newer program', true, '\\x00', 0)";
    execute(connection, newer).await;
    execute(connection, "alter table event add column newer text not null default ''").await;
    execute(connection, "alter table open_event add column newer integer").await;
    execute(connection, "alter table member add column newer boolean not null default false").await;
}

/// Publishes one event after the other until told to stop: how many.
async fn produce(amqp_url: String, url: String, stopping: watch::Receiver<bool>) -> usize {
    let producer = Producer::try_connect(&amqp_url).await.expect("the broker answers");
    let mut count = 0;
    while !*stopping.borrow() {
        producer.publish(&Message::new(&format!("user-{}", count % 9), &format!("event-{count}"), &url)).await;
        count += 1;
    }
    count
}

#[test]
fn a_worker_works_on_and_can_be_restarted_next_to_a_newer_schema() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &[]).await;
        let stop = watch::Sender::new(false);
        let producing = tokio::spawn(produce(world.amqp_url.clone(), receiver.url(), stop.subscribe()));
        let more = async || {
            let delivered = receiver.log().delivered.len();
            receiver.wait_for_delivered(SOON, delivered + 100).await;
        };
        more().await;
        add_a_newer_migration(&mut connect(world).await).await;
        more().await;
        let second = Worker::start(world, &[]).await;
        worker.stop().await;
        more().await;
        stop.send_replace(true);
        let count = producing.await.expect("the producer");
        receiver.wait_for_delivered(SOON, count).await;
        second.stop().await;
        let check = Check::new(receiver.attempts(), 5);
        check.order(&Database::connect(world).await.lines().await).nothing_resent();
    });
}

/// How often a message may come back to a queue.
async fn limit_of_returns(world: &World, queue: &str) -> Option<i64> {
    let declared = world.ask(&format!("api/queues/{}/{queue}", world.name)).await;
    declared["arguments"]["x-delivery-limit"].as_i64()
}

#[test]
fn no_queue_of_a_new_topology_drops_what_comes_back_often() {
    test(Load::Shared, async |world| {
        Worker::start(world, &["--partitions", "1"]).await.stop().await;
        for (queue, least) in
            [("events.partition.0", 1_000), ("events.due.0", 1 << 30), ("events.dead-letter", 1 << 30)]
        {
            let limit = limit_of_returns(world, queue).await;
            assert!(limit.is_some_and(|limit| limit >= least), "{queue}: {limit:?}");
        }
    });
}

#[test]
fn what_is_too_new_stops_the_start_with_one_clear_line() {
    test(Load::Shared, async |world| {
        Worker::start(world, &[]).await.stop().await;
        let mut connection = connect(world).await;
        let known = migrator().await.iter().map(|migration| migration.version).max().expect("a migration");
        let table = [
            ("least_schema = 9000", format!("migration 9000, and onceward {VERSION} knows them up to {known}")),
            ("least_schema = 0, topology = 9", format!("version 9 of them, and onceward {VERSION} knows 3")),
        ];
        for (newer, told) in table {
            execute(&mut connection, &format!("update cluster set {newer}")).await;
            let (code, text) = run_to_end(world, &["worker"]).await;
            let lines: Vec<_> = text.lines().filter(|line| line.contains("newer onceward")).collect();
            assert!(code != 0 && lines.len() == 1 && lines[0].contains(&told), "{told}: {text}");
        }
        execute(&mut connection, "update cluster set topology = 3").await;
        Worker::start(world, &[]).await.stop().await;
    });
}

/// Migrations that break older programs, each with how such programs are kept from starting.
const BREAKING: [i64; 0] = [];
/// Indexes that another has taken the place of: without them, an older program is slower and does the same.
const REPLACED: [&str; 2] = ["open_event_line", "open_event_parked"];

/// Why a program that doesn't know of the statement might fail on it.
fn harm_of(statement: &str, new_tables: &HashSet<String>) -> Option<&'static str> {
    let words: Vec<_> = statement.split_whitespace().collect();
    let is_new = |at: usize| words.get(at).is_some_and(|name| new_tables.contains(*name));
    let has = |text: &str| format!(" {} ", words.join(" ")).contains(&format!(" {text} "));
    let on = words.iter().position(|word| *word == "on").unwrap_or(words.len());
    let only_adds = match words.as_slice() {
        ["alter", "table", ..] if is_new(2) => return None,
        ["alter", "table", _, "add", "column", ..] if has("not null") && !has("default") => {
            return Some("adds a column that older programs don't fill");
        }
        ["alter", "table", _, "add", "column", ..] if has("unique") || has("check") || has("references") => {
            return Some("adds a rule that older programs don't know");
        }
        // One at a time, so that each is looked at.
        ["alter", "table", _, "add", "column", ..] => !has(","),
        ["create", "unique", "index", ..] => is_new(on + 1),
        // Of a view, PostgreSQL itself refuses one that lacks a column of the former.
        ["create", "index" | "sequence" | "table" | "view", ..]
        | ["create", "or", "replace", "view", ..]
        | ["alter", "table", _, "set", "(", ..]
        | ["insert" | "comment", ..] => true,
        ["drop", "index", name] => REPLACED.contains(name),
        _ => false,
    };
    (!only_adds).then_some("does more than add")
}

/// The statements of a migration in lower case, without comments and with parentheses apart.
fn statements(sql: &str) -> Vec<String> {
    let lines: Vec<_> = sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    let text = lines.join(" ").to_lowercase().replace('(', " ( ").replace(')', " ) ").replace(',', " , ");
    text.split(';').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

fn harms_of(sql: &str) -> Vec<String> {
    let statements = statements(sql);
    let created = statements.iter().filter_map(|statement| statement.strip_prefix("create table "));
    let new_tables: HashSet<_> = created.filter_map(|rest| Some(rest.split_whitespace().next()?.to_owned())).collect();
    let harms = statements.iter().filter_map(|statement| Some((statement, harm_of(statement, &new_tables)?)));
    harms.map(|(statement, why)| format!("{why}: {statement}")).collect()
}

#[test]
fn migrations_only_add() {
    let mut names: Vec<_> = std::fs::read_dir(MIGRATIONS).expect("the migrations").collect();
    names.sort_by_key(|entry| entry.as_ref().expect("an entry").file_name());
    for (number, entry) in (1_i64..).zip(names) {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a name");
        assert!(name.starts_with(&format!("{number:04}_")), "{name}: the numbers have no holes");
        let sql = std::fs::read_to_string(entry.path()).expect("a migration");
        if BREAKING.contains(&number) {
            assert!(sql.contains(&format!("least_schema = {number}")), "{name}: older programs would start");
        } else {
            assert_eq!(harms_of(&sql), [""; 0], "{name}: list it in BREAKING, or do it in two releases");
        }
    }
}

#[test]
fn a_migration_that_would_break_an_older_program_is_found() {
    let harmful = [
        "drop table event;",
        "alter table event drop column trace;",
        "alter table event rename column trace to span;",
        "alter table event rename to happening;",
        "alter table event alter column trace type bytea;",
        "alter table event alter trace set not null;",
        "alter table event add column span text not null;",
        "alter table event add column span text unique;",
        "alter table event add column span text default '', drop column trace;",
        "alter table event add column a text default '', add column b text not null;",
        "alter table event add check (entity <> '');",
        "create unique index one on event (entity);",
        "truncate event;",
        "delete from event;",
        "update event set entity = '';",
        "-- harmless\ncreate index a on event (entity); Drop Index a;",
    ];
    for sql in harmful {
        assert_eq!(harms_of(sql).len(), 1, "{sql}: {:?}", harms_of(sql));
    }
    let harmless = [
        "alter table event add column span text; -- not null",
        "alter table event add column span text not null default '';",
        "create table more (id bigint not null); create unique index one on more (id); alter table more add check (id > 0);",
        "create index concurrently_not on event (entity) where trace is not null;",
    ];
    for sql in harmless {
        assert_eq!(harms_of(sql), [""; 0], "{sql}");
    }
}
