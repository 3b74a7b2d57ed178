//! Statements are planned once, and go on as they were planned: what they read must not grow with what is open.

use crate::support::{Database, Gate, Load, Message, Producer, Receiver, Reply, SOON, Worker, test};

const ENTITIES: usize = 100;
const EVENTS: usize = 10_000;
/// Look-ups for an event's record, line, start and settlement, and for what lies beside it in its line.
const READS_OF_AN_EVENT: i64 = 40;

#[test]
fn a_worker_that_planned_while_nothing_was_open_reads_no_more_of_an_index_than_it_needs() {
    test(Load::Shared, async |world| {
        // The schema is there, and the planner knows that it is empty.
        Worker::start(world, &[]).await.stop().await;
        let database = Database::connect(world).await;
        database.analyse().await;
        let gate = Gate::closed();
        let behind = gate.clone();
        let receiver = Receiver::new(move |request| match request.key {
            key if key.starts_with("first") => Reply::ok(),
            _ => Reply::ok().behind(&behind),
        })
        .await;
        let worker = Worker::start(world, &["--attempt-timeout=60s", "--lease=120s", "--drain-time=90s"]).await;
        let producer = Producer::connect(world).await;
        // An entity's second event is recorded, started and settled by statements of its own each: all are planned now.
        let first: Vec<_> = (0..20).map(|n| Message::new("first", &format!("first-{n}"), &receiver.url())).collect();
        producer.publish_all(&first).await;
        receiver.wait_for_delivered(SOON, first.len()).await;

        let message =
            |n: usize| Message::new(&format!("user-{}", n % ENTITIES), &format!("event-{n}"), &receiver.url());
        producer.publish_all(&(0..EVENTS).map(message).collect::<Vec<_>>()).await;
        let all = i64::try_from(first.len() + EVENTS).expect("a small number");
        database.wait_for_recorded(SOON * 3, all).await;
        gate.open();
        receiver.wait_for_delivered(SOON * 6, first.len() + EVENTS).await;
        worker.stop().await;
        let read = database.index_entries_read().await / all;
        println!("{read} index entries were read for an event");
        assert!(read < READS_OF_AN_EVENT, "{read} index entries were read for an event");
    });
}
