//! Commits whose answer is lost, and links that carry little.

use std::time::{Duration, Instant};

use onceward::commands::verify::link::{Commit, Link, Lost, Then, Which};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};

use crate::support::{Check, Database, Load, Message, Producer, Receiver, Reply, SOON, Worker, World, test};

const EVENTS: usize = 300;
const KIB: usize = 1024;
/// So long the worker waits for an answer that does not come; its leases are renewed meanwhile.
const IN_DOUBT: Duration = Duration::from_secs(4);

/// As if another owner had taken every other partition of a worker.
async fn take_half_of(world: &World, name: &str, taker: &str) {
    let mut connection = PgConnection::connect(&world.database_url).await.expect("the database answers");
    let taken = sqlx::query(
        "update partition p set owner = m.id, owner_name = m.name, epoch = p.epoch + 1 from member m \
         where p.owner_name = $1 and m.name = $2 and p.id % 2 = 0",
    )
    .bind(name)
    .bind(taker)
    .execute(&mut connection)
    .await
    .expect("the partitions");
    assert!(taken.rows_affected() > 0, "{name} has none of the even partitions");
}

#[test]
fn each_event_has_its_own_outcome_though_some_leases_are_lost_while_its_commit_is_in_doubt() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|_| Reply::ok().after(Duration::from_millis(5))).await;
        let link = Link::to(&world.database_url).await.expect("a link");
        let through = link.through(&world.database_url).expect("a URL");
        let partitions = "--partitions=8";
        let linked = Worker::start(world, &[partitions, "--name=linked", "--database-url", &through]).await;
        let direct = Worker::start(world, &[partitions, "--name=direct"]).await;
        let database = Database::connect(world).await;
        database.wait_for_even_shares(SOON, 2).await;

        // A commit of many arrivals takes place, and its worker does not hear of it.
        link.on_commits(Which::Larger(32 * KIB as u64), [Commit::Lose(Lost::Answer, Then::Reset(IN_DOUBT))]);
        let producer = Producer::connect(world).await;
        let message = |n: usize| {
            let message = Message::new(&format!("user-{n}"), &format!("event-{n}"), &receiver.url());
            message.body(format!("{n} ").repeat(KIB / 4))
        };
        let messages: Vec<Message> = (0..EVENTS).map(message).collect();
        producer.publish_all(&messages).await;
        link.until_lost(1).await;
        let in_doubt_since = Instant::now();
        take_half_of(world, "linked", "direct").await;
        linked.wait_for_line(SOON, "the partition has another owner").await;

        receiver.wait_for_delivered(SOON * 2, EVENTS).await;
        linked.stop().await;
        direct.stop().await;
        assert_eq!(database.states().await, [("DELIVERED".to_owned(), 300)].into());
        // What was sent before could not be settled by a worker that waits, and its next owner knows nothing of it.
        let check = Check::new(receiver.attempts(), 5);
        for attempt in check.resent() {
            assert!(attempt.started < in_doubt_since, "sent again, though it was recorded once: {attempt:#?}");
        }
        for attempt in receiver.attempts() {
            let body = &messages.iter().find(|message| message.name() == attempt.key).expect("published").body;
            assert_eq!(attempt.body, *body, "{} has another one's body", attempt.key);
        }
    });
}

const LARGE: usize = 24;

#[test]
fn large_bodies_are_recorded_at_the_speed_of_the_link() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let link = Link::to(&world.database_url).await.expect("a link");
        let through = link.through(&world.database_url).expect("a URL");
        let worker = Worker::start(world, &["--database-url", &through]).await;
        // 16 KiB in 5 ms, and the leases' own words as slow: all of them at once would take longer than the server waits.
        link.set_delay(Duration::from_millis(5));
        let producer = Producer::connect(world).await;
        let message = |n: usize| {
            Message::new(&format!("user-{n}"), &format!("large-{n}"), &receiver.url()).body(vec![b'0'; KIB * KIB])
        };
        producer.publish_all(&(0..LARGE).map(message).collect::<Vec<_>>()).await;
        receiver.wait_for_delivered(SOON * 4, LARGE).await;
        link.set_delay(Duration::ZERO);
        worker.stop().await;
        Check::new(receiver.attempts(), 5).nothing_resent();
    });
}

#[test]
fn a_session_that_the_database_is_set_to_forget_commits_is_told_not_to() {
    test(Load::Shared, async |world| {
        let mut connection = PgConnection::connect(&world.database_url).await.expect("the database answers");
        for setting in ["synchronous_commit = off", "default_transaction_isolation = 'serializable'"] {
            let sql = format!(
                "do $$ begin execute format('alter database %I set {}', current_database()); end $$",
                setting.replace('\'', "''")
            );
            connection.execute(sqlx::AssertSqlSafe(sql)).await.expect("a setting of the database");
        }
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &[]).await;
        let producer = Producer::connect(world).await;
        producer.publish(&Message::new("user", "event", &receiver.url())).await;
        receiver.wait_for_key(SOON, "event").await;
        worker.stop().await;
        assert_eq!(Database::connect(world).await.states().await, [("DELIVERED".to_owned(), 1)].into());
    });
}
