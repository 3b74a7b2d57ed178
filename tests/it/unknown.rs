//! Attempts whose outcome nobody knows, because their worker died: they are no failures of the receiver.

use std::time::Duration;

use crate::support::{
    Check, Database, DeadLetters, Load, Message, Producer, Receiver, Reply, SOON, Worker, World, test,
};

/// More than an event has attempts.
const CRASHES: u32 = 7;
const EVENTS: usize = 40;
const SETTINGS: [&str; 8] = [
    // The shortest that there is.
    "--lease=1s",
    "--attempt-timeout=600ms",
    "--max-attempts=5",
    "--backoff-initial=100ms",
    "--backoff-max=200ms",
    "--backoff-jitter=0",
    "--partitions=2",
    "--drain-time=5s",
];

/// Kills a worker while all of these events are in flight.
async fn crash(world: &World, receiver: &Receiver, settings: &[&str], attempts: usize) {
    let worker = Worker::spawn(world, settings);
    receiver.wait_for(SOON * 2, "attempts", |log| log.attempts.len() >= attempts).await;
    worker.kill().await;
}

#[test]
fn a_crash_loop_fails_no_event_that_only_was_in_flight() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|_| Reply::hang()).await;
        Worker::start(world, &SETTINGS).await.stop().await;
        let producer = Producer::connect(world).await;
        let message = |n: usize| Message::new(&format!("user-{n}"), &format!("event-{n}"), &receiver.url());
        producer.publish_all(&(0..EVENTS).map(message).collect::<Vec<_>>()).await;
        for crashes in 1..=CRASHES as usize {
            crash(world, &receiver, &SETTINGS, crashes * EVENTS).await;
        }
        receiver.behave(|_| Reply::ok());
        let worker = Worker::spawn(world, &SETTINGS);
        receiver.wait_for_delivered(SOON * 2, EVENTS).await;
        worker.stop().await;
        let states = Database::connect(world).await.states().await;
        assert_eq!(states, [("DELIVERED".to_owned(), 40)].into(), "none is FAILED");
        Check::with_unknown(receiver.attempts(), 5, CRASHES).nothing_resent();
    });
}

#[test]
fn an_event_that_brings_its_worker_down_ends_as_such() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|_| Reply::hang()).await;
        let settings = [&SETTINGS[..], &["--max-unknown-outcomes=3"]].concat();
        Worker::start(world, &settings).await.stop().await;
        let producer = Producer::connect(world).await;
        producer.publish(&Message::new("user", "deadly", &receiver.url())).await;
        for crashes in 1..=3 {
            crash(world, &receiver, &settings, crashes).await;
        }
        let (worker, dead_letters) = (Worker::spawn(world, &settings), DeadLetters::open(world).await);
        let letter = dead_letters.wait_for_key(SOON, "deadly").await;
        assert_eq!((letter.reason(), letter.attempts()), ("outcome_unknown".into(), 3));
        assert!(letter.detail().contains("its worker stopped"), "{}", letter.detail());
        assert_eq!(letter.history().len(), 3);
        receiver.behave(|_| Reply::ok());
        producer.publish(&Message::new("user", "harmless", &receiver.url())).await;
        receiver.wait_for_key(SOON, "harmless").await;
        tokio::time::timeout(Duration::from_secs(20), worker.stop()).await.expect("a stop");
    });
}
