//! Open events that nobody has in hand: a database that forgot commits, and rows that no way leads to.

use std::collections::HashSet;

use onceward::broker::wire;
use onceward::store::line;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::support::{Admin, Database, Load, Message, Producer, Receiver, SOON, Worker, World, test};

async fn execute(world: &World, sql: &str) {
    let mut connection = PgConnection::connect(&world.database_url).await.expect("the database answers");
    connection.execute(AssertSqlSafe(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// What a standby that took over without the last commits has of an event that was delivered: its first attempt. As with any
/// failover, connections are cut.
async fn forget_the_end_of(world: &World, key: &str) {
    let forget = format!(
        "with again as (delete from final_event f using event e where e.id = f.event_id and e.idempotency_key = '{key}' \
         returning e.id, e.partition, e.entity) insert into open_event (event_id, partition, entity, position, host, \
         body_bytes, state, attempts) select id, partition, entity, -1, 'forgotten:80', 1, 'IN_FLIGHT', 1 from again"
    );
    execute(world, &forget).await;
    let cut = "select pg_terminate_backend(pid) from pg_stat_activity \
               where datname = current_database() and pid <> pg_backend_pid()";
    execute(world, cut).await;
}

#[test]
fn an_attempt_whose_end_the_database_has_forgotten_is_made_again_and_its_entity_goes_on() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &[]).await;
        let producer = Producer::connect(world).await;
        producer.publish(&Message::new("user", "first", &receiver.url())).await;
        receiver.wait_for_key(SOON, "first").await;
        Database::connect(world).await.wait_for_some_delivered(SOON).await;
        forget_the_end_of(world, "first").await;
        producer.publish(&Message::new("user", "second", &receiver.url())).await;
        receiver.wait_for_key(SOON, "second").await;
        worker.wait_for_line(SOON, "nobody had it in hand").await;
        worker.stop().await;
        let keys: Vec<_> = receiver.attempts().into_iter().map(|attempt| (attempt.key, attempt.number)).collect();
        let expected = [("first", 1), ("first", 2), ("second", 1)];
        assert_eq!(
            keys,
            expected.map(|(key, number)| (key.to_owned(), number)),
            "in order, and told apart by its number"
        );
    });
}

/// An event that is recorded as ready, of which no worker was told; and one whose own row is gone, before another one.
fn left(destination: &str, host: &str) -> String {
    let event = |key: &str, entity: &str| {
        let properties = wire::encode(&Message::new(entity, key, destination).properties());
        let properties: String = properties.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "insert into event (idempotency_key, digest, partition, entity, destination, properties, body) \
             values ('{key}', '\\x00', 0, '{entity}', '{destination}', '\\x{properties}', 'body');"
        )
    };
    let open = |key: &str| {
        format!(
            "insert into open_event (event_id, partition, entity, position, host, body_bytes) \
             select id, partition, entity, -1, '{host}', 4 from event where idempotency_key = '{key}';"
        )
    };
    let gone = [event("gone", "orphaned"), open("gone"), "delete from event where idempotency_key = 'gone';".into()];
    let behind = [event("behind", "orphaned"), open("behind")];
    [gone.concat(), behind.concat(), event("ready", "forgotten"), open("ready")].concat()
}

#[test]
fn what_is_ready_and_known_to_nobody_is_sent_and_a_row_without_an_event_stops_nothing() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &[]).await;
        let host = receiver.url().trim_start_matches("http://").split('/').next().expect("a host").to_owned();
        execute(world, &left(&receiver.url(), &host)).await;
        receiver.wait_for_key(SOON, "ready").await;
        receiver.wait_for_key(SOON, "behind").await;
        worker.wait_for_line(SOON, "is gone from the database").await;
        let metrics = Admin::of(&worker).await.metrics().await;
        for (kind, least) in [("ready", 1.0), ("orphan", 1.0), ("in_flight", 0.0)] {
            let counted = metrics[&format!("onceward_event_rescued_total{{onceward_kind=\"{kind}\"}}")];
            assert!(counted >= least, "{kind}: {counted}");
        }
        worker.stop().await;
        let states = Database::connect(world).await.states().await;
        assert_eq!(states, [("DELIVERED".to_owned(), 2)].into(), "nothing else is open");
    });
}

#[test]
fn a_look_for_overdue_retries_goes_on_behind_those_that_it_has_named() {
    test(Load::Shared, async |world| {
        Worker::start(world, &["--partitions=1"]).await.stop().await;
        // Many have the same time: these are told apart by their numbers.
        let overdue = "with recorded as (insert into event (idempotency_key, digest, partition, entity, destination, \
                       properties, body) select 'key-' || n, '\\x00', 0, 'user-' || n, 'http://host/', '', '' \
                       from generate_series(1, 1500) n returning id, entity) \
                       insert into open_event (event_id, partition, entity, position, host, body_bytes, state, attempts, \
                       due_at) select id, 0, entity, -1, 'host:80', 0, 'RETRY_WAIT', 1, \
                       date_trunc('minute', clock_timestamp()) - id % 7 * interval '1 minute' - interval '1 hour' \
                       from recorded";
        execute(world, overdue).await;
        let mut connection = PgConnection::connect(&world.database_url).await.expect("the database answers");
        let (mut place, mut seen) = ((0, 0), HashSet::new());
        for expected in [1_000, 500, 0] {
            let found = line::overdue(&mut connection, &[0], 2_000, place, 1_000).await.expect("a look");
            assert_eq!(found.len(), expected);
            seen.extend(found.iter().map(|overdue| overdue.event_id));
            place = found.last().map_or(place, line::Overdue::place);
        }
        assert_eq!(seen.len(), 1_500);
    });
}
