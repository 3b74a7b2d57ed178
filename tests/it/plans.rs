//! Statements are planned once, and go on as they were planned: what they read must not grow with what is open, nor with
//! what was.

use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::support::{Database, Gate, Load, Message, Producer, Receiver, Reply, SOON, Worker, World, test, within};

const ENTITIES: usize = 100;
const EVENTS: usize = 6_000;
/// Look-ups for an event's record, line, start and settlement, and for what lies beside it in its line.
const READS_OF_AN_EVENT: i64 = 40;

#[test]
fn a_worker_that_planned_while_nothing_was_open_reads_no_more_of_an_index_than_it_needs() {
    test(Load::Shared, async |world| {
        // The schema is there, and the planner knows that it is empty.
        Worker::start(world, &[]).await.stop().await;
        let database = Database::connect(world).await;
        let mut recorded = 0;
        // The first time, the table has never held anything; the second time, it is empty and large.
        for time in ["first", "second"] {
            database.analyse().await;
            let before = database.index_entries_read().await;
            let events = fill_and_empty(world, &database, time, recorded).await;
            recorded += events;
            let read = (database.index_entries_read().await - before) / events;
            println!("{time} time: {read} index entries were read for an event");
            assert!(read < READS_OF_AN_EVENT, "{time} time: {read} index entries were read for an event");
        }
    });
}

/// Has a worker plan its statements, and then record many events before it delivers them. Gives how many there were.
async fn fill_and_empty(world: &World, database: &Database, time: &str, recorded: i64) -> i64 {
    let gate = Gate::closed();
    let behind = gate.clone();
    let receiver = Receiver::new(move |request| match request.key {
        key if key.starts_with("plan") => Reply::ok(),
        _ => Reply::ok().behind(&behind),
    })
    .await;
    let worker = Worker::start(world, &["--attempt-timeout=60s", "--lease=120s", "--drain-time=90s"]).await;
    let producer = Producer::connect(world).await;
    // An entity's second event is recorded, started and settled by statements of its own each: all are planned now.
    let planned = |n: usize| Message::new("planned", &format!("plan-{time}-{n}"), &receiver.url());
    let planned: Vec<_> = (0..20).map(planned).collect();
    producer.publish_all(&planned).await;
    receiver.wait_for_delivered(SOON, planned.len()).await;

    let message = |n: usize| Message::new(&format!("user-{}", n % ENTITIES), &format!("{time}-{n}"), &receiver.url());
    producer.publish_all(&(0..EVENTS).map(message).collect::<Vec<_>>()).await;
    let events = i64::try_from(planned.len() + EVENTS).expect("a small number");
    database.wait_for_recorded(SOON * 3, recorded + events).await;
    gate.open();
    receiver.wait_for_delivered(SOON * 6, planned.len() + EVENTS).await;
    worker.stop().await;
    events
}

#[test]
fn a_worker_that_never_rests_tells_the_server_what_there_is_to_vacuum() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &[]).await;
        let (producer, database) = (Producer::connect(world).await, Database::connect(world).await);
        let work = async {
            for n in 0.. {
                let (entity, key) = (format!("user-{}", n % ENTITIES), format!("restless-{n}"));
                producer.publish(&Message::new(&entity, &key, &receiver.url())).await;
                if n % 50 == 0 && database.open_events_deleted().await > 0 {
                    return;
                }
            }
        };
        within(SOON, "the statistics of a table", work).await;
        worker.stop().await;
    });
}

/// Events of the one entity, and the look-ups of each of them, while nothing that is over can be vacuumed.
const OF_ONE: usize = 1_500;

#[test]
fn a_snapshot_that_somebody_holds_open_makes_no_line_longer_to_search() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &[]).await;
        let database = Database::connect(world).await;
        let mut snapshot = PgConnection::connect(&world.database_url).await.expect("the database answers");
        snapshot.execute("begin isolation level repeatable read").await.expect("a transaction");
        snapshot.execute("select count(*) from event").await.expect("a snapshot");
        let producer = Producer::connect(world).await;
        let message = |n: usize| Message::new("hot", &format!("hot-{n}"), &receiver.url());
        producer.publish_all(&(0..OF_ONE).map(message).collect::<Vec<_>>()).await;
        receiver.wait_for_delivered(SOON * 3, OF_ONE).await;
        worker.stop().await;
        let read = database.index_entries_read().await / i64::try_from(OF_ONE).expect("a small number");
        println!("{read} index entries were read for an event");
        assert!(read < READS_OF_AN_EVENT, "{read} index entries were read for an event");
        snapshot.execute("commit").await.expect("the end of the snapshot");
    });
}
