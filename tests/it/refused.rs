//! A database that refuses: one event, or everything for a while. Neither ends a worker.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::support::{Admin, DeadLetters, Load, Message, Producer, Receiver, SOON, Worker, World, test};

async fn execute(world: &World, sql: &str) {
    let mut connection = PgConnection::connect(&world.database_url).await.expect("the database answers");
    connection.execute(AssertSqlSafe(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

#[test]
fn an_event_that_the_database_cannot_hold_is_set_aside_alone() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &["--partitions=1"]).await;
        execute(world, "alter table event add check (entity <> 'unstorable')").await;
        let (producer, dead_letters) = (Producer::connect(world).await, DeadLetters::open(world).await);
        let message = |n: usize| {
            let entity = if n == 50 { "unstorable".to_owned() } else { format!("user-{n}") };
            Message::new(&entity, &format!("event-{n}"), &receiver.url())
        };
        producer.publish_all(&(0..100).map(message).collect::<Vec<_>>()).await;
        receiver.wait_for_delivered(SOON, 99).await;
        let letter = dead_letters.wait_for_key(SOON, "event-50").await;
        assert_eq!(letter.reason(), "unstorable");
        assert!(letter.detail().contains("SQLSTATE 23514"), "{}", letter.detail());
        worker.stop().await;
        assert_eq!(dead_letters.taken().len(), 1);
    });
}

#[test]
fn a_database_that_refuses_every_commit_is_waited_for_and_told() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &[]).await;
        let admin = Admin::of(&worker).await;
        admin.wait_for_ready(true, "ready").await;
        let refuse = "create function refuse() returns trigger language plpgsql as \
                      $$ begin raise exception 'not now' using errcode = 'P0001'; end $$; \
                      create trigger refuse before insert or update on writer_commit execute function refuse();";
        execute(world, refuse).await;
        let producer = Producer::connect(world).await;
        producer.publish(&Message::new("user", "waits", &receiver.url())).await;
        admin.wait_for_ready(false, "the database refuses a statement").await;
        execute(world, "drop trigger refuse on writer_commit").await;
        receiver.wait_for_key(SOON, "waits").await;
        admin.wait_for_ready(true, "ready").await;
        worker.stop().await;
    });
}

#[test]
fn a_commit_that_waits_for_a_lock_is_told_as_long_as_it_does() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &[]).await;
        let admin = Admin::of(&worker).await;
        admin.wait_for_ready(true, "ready").await;
        let mut locking = PgConnection::connect(&world.database_url).await.expect("the database answers");
        locking.execute("begin; lock table event in access exclusive mode").await.expect("the lock");
        Producer::connect(world).await.publish(&Message::new("user", "waits", &receiver.url())).await;
        admin.wait_for_ready(false, "the database takes long for a commit").await;
        locking.execute("rollback").await.expect("the end of the lock");
        receiver.wait_for_key(SOON, "waits").await;
        admin.wait_for_ready(true, "ready").await;
        worker.stop().await;
    });
}
