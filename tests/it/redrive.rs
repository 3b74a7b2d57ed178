//! A redrive meets what stands in its way: the end of a retention, a lock, a kill, the cap on a host.

use std::time::Duration;

use sqlx::postgres::{PgPool, PgPoolOptions};

use crate::support::{
    Database, DeadLetters, Gate, Load, Message, Producer, Receiver, Reply, SOON, Worker, World, asking, run_to_end,
    test,
};

/// Every event that fails is FAILED at once.
const ONCE: [&str; 4] = ["--max-attempts", "1", "--partitions", "1"];
/// An attempt may wait for the test.
const PATIENT: [&str; 4] = ["--attempt-timeout", "20s", "--lease", "30s"];

async fn pool(world: &World) -> PgPool {
    PgPoolOptions::new().max_connections(3).connect(&world.database_url).await.expect("the database answers")
}

/// Makes one FAILED event of an entity of its own of each key, in this order, with its dead letter published.
async fn fail(world: &World, receiver: &Receiver, pool: &PgPool, keys: &[String]) {
    receiver.behave(|_| Reply::status(500));
    let worker = Worker::start(world, &[&ONCE[..], &PATIENT[..]].concat()).await;
    let dead_letters = DeadLetters::open(world).await;
    let producer = Producer::connect(world).await;
    for (count, key) in (1..).zip(keys) {
        producer.publish(&Message::new(&format!("entity of {key}"), key, &receiver.url())).await;
        if keys.len() < 10 {
            dead_letters.wait_for(SOON, count).await;
        }
    }
    dead_letters.wait_for(SOON, keys.len()).await;
    let sql = "select not exists (select from dead_letter where published_at is null)";
    let are_marked =
        async || sqlx::query_scalar::<_, bool>(sql).fetch_one(pool).await.expect("the outbox").then_some(());
    asking(SOON, "the record of the dead letters", are_marked).await;
    worker.stop().await;
}

/// Waits until so many statements wait for a lock. Nothing outside tells of it, so this asks.
async fn until_locked(pool: &PgPool, count: i64) {
    let sql = "select count(*) >= $1 from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    let wait = async || sqlx::query_scalar::<_, bool>(sql).bind(count).fetch_one(pool).await.ok()?.then_some(());
    asking(SOON, format_args!("{count} statements that wait for a lock"), wait).await;
}

/// Waits until nothing is left of an event.
async fn until_deleted(pool: &PgPool, key: &str) {
    let sql = "select not exists (select from event where idempotency_key = $1)";
    let is_gone = async || sqlx::query_scalar::<_, bool>(sql).bind(key).fetch_one(pool).await.ok()?.then_some(());
    asking(SOON, format_args!("the end of {key}"), is_gone).await;
}

/// Rows about events that are not there.
async fn orphans(pool: &PgPool) -> i64 {
    let sql = "select count(*) from (select event_id from open_event union all select event_id from final_event
        union all select event_id from dead_letter union all select event_id from failed_attempt) o
        where not exists (select from event e where e.id = o.event_id)";
    sqlx::query_scalar(sql).fetch_one(pool).await.expect("the tables")
}

/// Redrives an event at the end of its retention, while the sweep that is about to delete it waits for a lock on another one.
/// `keys` has the two, `redriven` and `locked`, in the order in which the sweep comes by. Whether the event was delivered.
async fn redrive_during_the_sweep(world: &World, keys: [&str; 2]) -> bool {
    let (redriven, locked) = ("redriven", "locked");
    let receiver = Receiver::healthy().await;
    let pool = pool(world).await;
    fail(world, &receiver, &pool, &keys.map(str::to_owned)).await;
    sqlx::query("update final_event set finished_at = finished_at - interval '1 hour'")
        .execute(&pool)
        .await
        .expect("the tables");
    let mut lock = pool.begin().await.expect("a transaction");
    let sql = "select from final_event f join event e on e.id = f.event_id where idempotency_key = $1 for update of f";
    sqlx::query(sql).bind(locked).execute(&mut *lock).await.expect("a lock");
    // What is redriven stays open until the sweep is over.
    let gate = Gate::closed();
    let behind = gate.clone();
    receiver.behave(move |_| Reply::ok().behind(&behind));
    // It sweeps when it starts.
    let worker = Worker::start(world, &[&ONCE[..], &PATIENT[..], &["--retention", "1min"]].concat()).await;
    until_locked(&pool, 1).await;
    let (code, text) = run_to_end(world, &["redrive", redriven]).await;
    assert_eq!(code, 0, "{text}");
    if keys[0] == redriven {
        // The sweep holds its row: the writer waits, too.
        until_locked(&pool, 2).await;
    } else {
        receiver.wait_for(SOON, "the redriven event", |log| log.open == 1).await;
    }
    lock.rollback().await.expect("a rollback");
    until_deleted(&pool, locked).await;
    gate.open();
    let next = Message::new(&format!("entity of {redriven}"), "next", &receiver.url());
    Producer::connect(world).await.publish(&next).await;
    receiver.wait_for_key(SOON, "next").await;
    worker.stop().await;
    assert_eq!(orphans(&pool).await, 0);
    let states: Vec<String> = sqlx::query_scalar("select state from event_state where idempotency_key = $1")
        .bind(redriven)
        .fetch_all(&pool)
        .await
        .expect("the view for people");
    let delivered = receiver.log().delivered.contains(redriven);
    let expected: &[&str] = if delivered { &["DELIVERED"] } else { &[] };
    assert_eq!(states, expected, "it is deleted whole or delivered whole");
    let open: i64 = sqlx::query_scalar("select count(*) from open_event").fetch_one(&pool).await.expect("the tables");
    assert_eq!(open, 0);
    delivered
}

#[test]
fn an_event_that_is_redriven_before_the_end_of_its_retention_gets_to_it_is_delivered_whole() {
    test(Load::Shared, async |world| {
        assert!(redrive_during_the_sweep(world, ["locked", "redriven"]).await);
    });
}

#[test]
fn an_event_that_the_end_of_its_retention_has_got_to_is_deleted_whole_though_it_is_redriven() {
    test(Load::Shared, async |world| {
        assert!(!redrive_during_the_sweep(world, ["redriven", "locked"]).await);
    });
}

#[test]
fn redriven_and_new_events_share_the_cap_of_a_host_whose_url_names_no_port() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::on("127.0.0.80", 80, |_| Reply::status(500)).await;
        let url = "http://127.0.0.80/events";
        let settings = ["--host-connections", "4", "--max-attempts", "1"];
        let worker = Worker::start(world, &[&settings[..], &PATIENT[..]].concat()).await;
        let dead_letters = DeadLetters::open(world).await;
        let producer = Producer::connect(world).await;
        let messages = |name: &str| -> Vec<Message> {
            let names = (0..60).map(|number| format!("{name}-{number}"));
            names.map(|key| Message::new(&key, &key, url)).collect()
        };
        producer.publish_all(&messages("old")).await;
        dead_letters.wait_for(SOON, 60).await;

        let gate = Gate::closed();
        let behind = gate.clone();
        receiver.behave(move |_| Reply::ok().behind(&behind).after(Duration::from_millis(20)));
        let old: Vec<String> = messages("old").iter().map(|message| message.name().to_owned()).collect();
        let redrive = [vec!["redrive"], old.iter().map(String::as_str).collect()].concat();
        let new = messages("new");
        let ((code, text), ()) = tokio::join!(run_to_end(world, &redrive), producer.publish_all(&new));
        assert_eq!(code, 0, "{text}");
        let pool = pool(world).await;
        let sql = "select count(*) = 120 from open_event";
        let are_open = async || sqlx::query_scalar::<_, bool>(sql).fetch_one(&pool).await.ok()?.then_some(());
        asking(SOON, "120 open events", are_open).await;
        let hosts: Vec<String> =
            sqlx::query_scalar("select distinct host from open_event").fetch_all(&pool).await.expect("the tables");
        assert_eq!(hosts, ["127.0.0.80:80"], "one name of one host");
        gate.open();
        receiver.wait_for_delivered(SOON, 120).await;
        worker.stop().await;
        assert_eq!(receiver.log().most_open, 4);
        assert_eq!(receiver.attempts().len(), 60 + 120);
    });
}

#[test]
fn what_was_redriven_while_the_writer_waited_for_a_lock_is_sent_again_though_the_worker_was_killed() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let pool = pool(world).await;
        let keys: Vec<String> = (0..150).map(|number| format!("failed-{number}")).collect();
        fail(world, &receiver, &pool, &keys).await;
        receiver.behave(|_| Reply::ok());
        let worker = Worker::start(world, &ONCE).await;
        let mut lock = pool.begin().await.expect("a transaction");
        sqlx::query("lock table writer_commit in exclusive mode").execute(&mut *lock).await.expect("a lock");
        let redrive = [vec!["redrive"], keys.iter().map(String::as_str).collect()].concat();
        let (code, text) = run_to_end(world, &redrive).await;
        assert_eq!((code, text.matches("sent again").count()), (0, keys.len()), "{text}");
        until_locked(&pool, 1).await;
        worker.kill().await;
        lock.rollback().await.expect("a rollback");
        let worker = Worker::start(world, &ONCE).await;
        receiver.wait_for_delivered(SOON * 2, keys.len()).await;
        worker.stop().await;
        let states = Database::connect(world).await.states().await;
        assert_eq!(states, [("DELIVERED".to_owned(), 150)].into());
        assert_eq!(receiver.attempts().len(), 2 * keys.len(), "each failed once, and was sent again once");
    });
}
