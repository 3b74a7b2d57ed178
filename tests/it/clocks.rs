//! The database's clock is set under load: nobody's leases hang on it.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};

use crate::support::{
    Check, Database, Load, Message, Producer, Receiver, Reply, SOON, Worker, World, test_with_a_database_clock,
};

const EVENTS: usize = 240;
const ENTITIES: usize = 40;
const CAP: usize = 4;
/// More than six of the harness' leases.
const STEP: i64 = 20;
/// A worker that took the step for the end of a lease would act at its next look, twice a second.
const LATER: usize = 60;

/// How far the database's clock is ahead of this machine's, in seconds.
async fn ahead(world: &World) -> i64 {
    let mut connection = PgConnection::connect(&world.database_url).await.expect("the database answers");
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("a clock of this century").as_secs_f64();
    let sql = "select round(extract(epoch from clock_timestamp()) - $1)::int8";
    sqlx::query_scalar(sql).bind(now).fetch_one(&mut connection).await.expect("a time")
}

#[test]
fn a_database_clock_that_is_set_moves_no_partition_and_opens_no_more_requests() {
    test_with_a_database_clock(Load::Shared, async |world, servers| {
        let receiver = Receiver::new(|_| Reply::ok().after(Duration::from_millis(300))).await;
        let settings = ["--partitions", "8", "--host-connections", "4"];
        let mut workers = Vec::new();
        for _ in 0..3 {
            workers.push(Worker::start(world, &settings).await);
        }
        let database = Database::connect(world).await;
        database.wait_for_even_shares(SOON, 3).await;
        let changes = database.changes_of_owner().await;
        let message =
            |n: usize| Message::new(&format!("entity-{}", n % ENTITIES), &format!("event-{n}"), &receiver.url());
        Producer::connect(world).await.publish_all(&(0..EVENTS).map(message).collect::<Vec<_>>()).await;
        receiver.wait_for_delivered(SOON, 20).await;

        for step in [STEP, 0] {
            servers.set_database_clock(step);
            assert_eq!(ahead(world).await, step);
            let delivered = receiver.log().delivered.len();
            receiver.wait_for_delivered(SOON, delivered + LATER).await;
            assert_eq!(database.changes_of_owner().await, changes, "no partition has moved at {step} s");
        }
        receiver.wait_for_delivered(SOON * 2, EVENTS).await;
        for worker in workers {
            worker.stop().await;
        }
        assert_eq!(receiver.log().most_open, CAP, "all that is allowed is used, and no more");
        assert_eq!(receiver.attempts().len(), EVENTS, "nothing was sent twice");
        Check::new(receiver.attempts(), 5).order(&database.lines().await);
    });
}
