//! The outbox of `deploy/examples`: its transactions, and its relay, which is killed.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::{PgPool, PgPoolOptions};
use sqlx::{Executor as _, PgConnection};
use tokio::process::Child;

use crate::support::{
    Check, Database, Example, Load, Receiver, SOON, Worker, World, asking, chance, pick, test, within,
};

const OUTBOX: &str = include_str!("../../deploy/examples/outbox/outbox.sql");
const WRITERS: usize = 4;
const ENTITIES: u32 = 6;
const TRANSACTIONS_OF_EACH: usize = 75;
const SEED: u64 = 41;

async fn database(world: &World) -> PgPool {
    let options = PgPoolOptions::new().max_connections(u32::try_from(WRITERS).expect("few") + 1);
    let pool = options.connect(&world.database_url).await.expect("the database answers");
    pool.execute(OUTBOX).await.expect("the outbox");
    pool
}

fn relay(world: &World) -> Child {
    Example::of(world, "python3").args(["outbox/relay.py"]).start()
}

/// Adds an event to the outbox, in the transaction of the connection.
async fn add(connection: &mut PgConnection, entity: &str, url: &str, key: &str) {
    let sql = "select outbox_add($1, $2, $3, key => $4)";
    let adding = sqlx::query(sql).bind(entity).bind(url).bind(format!(r#"{{"is":"{key}"}}"#)).bind(key);
    connection.execute(adding).await.expect("an event in the outbox");
}

/// Waits until the relay has deleted all. Nothing tells of it, so this asks.
async fn wait_until_empty(pool: &PgPool) {
    let sql = "select not exists (select from outbox)";
    let is_empty = async || sqlx::query_scalar::<_, bool>(sql).fetch_one(pool).await.expect("the outbox").then_some(());
    asking(SOON, "an empty outbox", is_empty).await;
}

/// One application: transactions one after the other, each with an event of one or two entities; some are rolled back.
/// The keys that it has committed.
async fn write(pool: &PgPool, url: &str, writer: usize) -> Vec<String> {
    let mut committed = Vec::new();
    for number in 0..TRANSACTIONS_OF_EACH {
        let name = format!("{writer}-{number}");
        let mut transaction = pool.begin().await.expect("a transaction");
        // In the order of their names, as outbox.sql advises: else two writers could wait for each other.
        let both = ["a", "b"].map(|which| pick(SEED, &format!("{name}-{which}"), ENTITIES));
        let keys: Vec<_> =
            BTreeSet::from(both).into_iter().map(|entity| (entity, format!("{name}-{entity}"))).collect();
        for (entity, key) in &keys {
            add(&mut transaction, &format!("account-{entity}"), url, key).await;
        }
        if chance(SEED, &[name.as_str()]) < 0.2 {
            transaction.rollback().await.expect("a rollback");
        } else {
            transaction.commit().await.expect("a commit");
            committed.extend(keys.into_iter().map(|(_, key)| key));
        }
    }
    committed
}

#[test]
fn what_concurrent_transactions_put_into_the_outbox_arrives_once_and_in_order_though_the_relay_is_killed() {
    test(Load::Shared, async |world| {
        let pool = database(world).await;
        let receiver = Receiver::healthy().await;
        let url = receiver.url();
        let worker = Worker::start(world, &[]).await;
        let mut relays = [relay(world), relay(world)];
        let writing = futures_util::future::join_all((0..WRITERS).map(|writer| write(&pool, &url, writer)));
        let killing = async {
            for kill in 1..=6 {
                receiver.wait_for_delivered(SOON, kill * 40).await;
                // Both at once every third time.
                for (which, one) in relays.iter_mut().enumerate() {
                    if kill % 3 == 0 || which == kill % 2 {
                        assert!(one.try_wait().expect("a child").is_none(), "a relay ended by itself");
                        one.kill().await.expect("a child");
                        *one = relay(world);
                    }
                }
            }
        };
        let (written, ()) = tokio::join!(writing, killing);
        let keys: Vec<_> = written.concat();
        receiver.wait_for_delivered(SOON * 3, keys.len()).await;
        wait_until_empty(&pool).await;
        worker.stop().await;

        let attempts = receiver.attempts();
        let delivered: BTreeSet<_> = attempts.iter().map(|attempt| attempt.key.clone()).collect();
        assert_eq!(
            delivered,
            keys.into_iter().collect::<BTreeSet<_>>(),
            "what was committed, and nothing that was rolled back"
        );
        let lines = Database::connect(world).await.lines().await;
        Check::new(attempts.clone(), 5).order(&lines).nothing_resent().numbers_without_holes();
        let mut numbers: BTreeMap<&str, Vec<Option<i64>>> = BTreeMap::new();
        let mut of_writer: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for attempt in &attempts {
            numbers.entry(&attempt.entity).or_default().push(attempt.sequence);
            // What one application commits earlier is earlier in the entity's order.
            let mut key = attempt.key.split('-');
            let (writer, number) = (key.next().expect("a writer"), key.next().expect("a number"));
            let number = number.parse().expect("a number");
            let before = of_writer.insert((attempt.entity.as_str(), writer), number);
            assert!(before.is_none_or(|before| before < number), "{} came late", attempt.key);
        }
        for (entity, numbers) in numbers {
            let expected: Vec<_> = (1..).map(Some).take(numbers.len()).collect();
            assert_eq!(numbers, expected, "{entity}");
        }
    });
}

#[test]
fn a_transaction_that_commits_late_is_not_passed_over_nor_overtaken_in_its_entity() {
    test(Load::Shared, async |world| {
        let pool = database(world).await;
        let receiver = Receiver::healthy().await;
        let url = receiver.url();
        let worker = Worker::start(world, &[]).await;
        let _relay = relay(world);
        // The first has the lower ids, and the last commit.
        let mut slow = pool.begin().await.expect("a transaction");
        add(&mut slow, "ada", &url, "ada-1").await;
        let mut quick = pool.begin().await.expect("a transaction");
        add(&mut quick, "bob", &url, "bob-1").await;
        quick.commit().await.expect("a commit");
        receiver.wait_for_key(SOON, "bob-1").await;
        wait_until_empty(&pool).await;
        let second = async {
            let mut second = pool.begin().await.expect("a transaction");
            add(&mut second, "ada", &url, "ada-2").await;
            second.commit().await.expect("a commit");
        };
        let first = async {
            // Nothing outside tells that the second waits for the first, so this asks.
            let sql = "select exists (select from pg_stat_activity
                where datname = current_database() and wait_event_type = 'Lock')";
            let waits =
                async || sqlx::query_scalar::<_, bool>(sql).fetch_one(&pool).await.expect("the activity").then_some(());
            asking(SOON, "the second to wait", waits).await;
            slow.commit().await.expect("a commit");
        };
        within(SOON, "both commits", Box::pin(async { tokio::join!(first, second) })).await;
        receiver.wait_for_delivered(SOON, 3).await;
        worker.stop().await;
        let seen: Vec<_> = receiver.attempts().into_iter().map(|attempt| (attempt.key, attempt.sequence)).collect();
        let expected = [("bob-1", 1), ("ada-1", 1), ("ada-2", 2)];
        assert_eq!(seen, expected.map(|(key, sequence)| (key.to_owned(), Some(sequence))));
    });
}

#[test]
fn the_outbox_refuses_what_the_worker_would_not_take() {
    test(Load::Shared, async |world| {
        let pool = database(world).await;
        let (url, long) = ("http://127.0.0.1:1/", "x".repeat(256));
        let long = long.as_str();
        let table = [
            ("", url, "key", "entity"),
            (long, url, "key", "entity"),
            ("ada", "ftp://127.0.0.1/", "key", "destination"),
            ("ada", url, "", "key"),
            ("ada", url, "two words", "key"),
        ];
        for (entity, destination, key, column) in table {
            let adding =
                sqlx::query("select outbox_add($1, $2, '{}', key => $3)").bind(entity).bind(destination).bind(key);
            let error = pool.execute(adding).await.expect_err("a constraint").to_string();
            assert!(error.contains(&format!("{column}_check")), "{entity} {destination} {key}: {error}");
        }
    });
}

#[test]
fn an_event_that_no_queue_takes_stays_in_the_outbox() {
    test(Load::Shared, async |world| {
        let pool = database(world).await;
        let receiver = Receiver::healthy().await;
        let mut transaction = pool.begin().await.expect("a transaction");
        add(&mut transaction, "ada", &receiver.url(), "ada-1").await;
        transaction.commit().await.expect("a commit");
        let (code, said) = Example::of(world, "python3").args(["outbox/relay.py"]).run().await;
        assert!(
            code == Some(1) && said.lines().count() == 1 && said.contains("no exchange 'events'"),
            "{code:?} {said}"
        );
        let worker = Worker::start(world, &[]).await;
        let _relay = relay(world);
        receiver.wait_for_key(SOON, "ada-1").await;
        worker.stop().await;
    });
}
