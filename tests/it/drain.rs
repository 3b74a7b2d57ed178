//! Stopping well.

use std::time::{Duration, Instant};

use crate::support::{Check, Database, Load, Message, Producer, Receiver, Reply, SOON, Worker, test};

/// Longer than a busy machine takes to hear a signal, shorter than an attempt's time.
const SLOW: Duration = Duration::from_millis(2_500);
const PATIENT: [&str; 4] = ["--attempt-timeout", "5s", "--lease", "8s"];

#[test]
fn on_sigterm_fifty_slow_attempts_finish_and_are_not_sent_again() {
    test(Load::Shared, async |world| stops_well_on(world, "TERM").await);
}

#[test]
fn ctrl_c_stops_as_well_as_sigterm_does() {
    test(Load::Shared, async |world| stops_well_on(world, "INT").await);
}

async fn stops_well_on(world: &crate::support::World, signal: &str) {
    let receiver = Receiver::new(|_| Reply::ok().after(SLOW)).await;
    let worker = Worker::start(world, &PATIENT).await;
    let producer = Producer::connect(world).await;
    let message = |n| Message::new(&format!("user-{n}"), &format!("event-{n}"), &receiver.url());
    // Fifty may be in flight; fifty more wait for them.
    producer.publish_all(&(0..100).map(message).collect::<Vec<_>>()).await;
    receiver.wait_for(SOON, "fifty open requests", |log| log.open == 50).await;
    worker.signal(signal);
    assert_eq!(worker.exit_code(SOON).await, 0);
    let answered = receiver.log().delivered.len();
    assert!((50..100).contains(&answered), "what was in flight has finished, the rest has not: {answered}");
    let delivered = Database::connect(world).await.states().await.get("DELIVERED").copied();
    assert_eq!(delivered, i64::try_from(answered).ok(), "every answer is settled");

    receiver.behave(|_| Reply::ok());
    let worker = Worker::start(world, &PATIENT).await;
    receiver.wait_for_delivered(SOON, 100).await;
    producer.publish(&message(100)).await;
    receiver.wait_for_key(SOON, "event-100").await;
    worker.stop().await;
    assert_eq!(receiver.attempts().len(), 101, "nothing was sent twice");
    Check::new(receiver.attempts(), 5).nothing_resent().numbers_without_holes();
}

#[test]
fn an_idle_worker_stops_at_once() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &[]).await;
        let begun = Instant::now();
        worker.stop().await;
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_worker_with_events_that_wait_for_their_retry_stops_at_once_and_they_go_on_later() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|_| Reply::status(500)).await;
        let settings = ["--backoff-initial", "3s"];
        let worker = Worker::start(world, &settings).await;
        let message = |n| Message::new(&format!("user-{n}"), &format!("event-{n}"), &receiver.url());
        Producer::connect(world).await.publish_all(&(0..20).map(message).collect::<Vec<_>>()).await;
        receiver.wait_for(SOON, "twenty failures", |log| log.attempts.len() == 20 && log.open == 0).await;
        let begun = Instant::now();
        worker.stop().await;
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        receiver.behave(|_| Reply::ok());
        let worker = Worker::start(world, &settings).await;
        receiver.wait_for_delivered(SOON, 20).await;
        worker.stop().await;
        Check::new(receiver.attempts(), 5).numbers_without_holes().nothing_resent();
        for attempt in receiver.attempts().iter().filter(|attempt| attempt.number == 2) {
            let first = receiver.attempts_of(&attempt.key)[0].started;
            assert!(attempt.started - first >= Duration::from_secs(3), "the delay holds across the restart");
        }
    });
}

#[test]
fn a_second_signal_ends_the_worker_at_once() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|_| Reply::hang()).await;
        let patient = ["--attempt-timeout", "20s", "--lease", "30s"];
        let worker = Worker::start(world, &patient).await;
        Producer::connect(world).await.publish(&Message::new("user", "hangs", &receiver.url())).await;
        receiver.wait_for(SOON, "the open request", |log| log.open == 1).await;
        worker.signal("TERM");
        // A second signal that comes before the first was heard is no second signal.
        worker.wait_for_line(SOON, "stopping: ").await;
        let begun = Instant::now();
        worker.signal("TERM");
        let code = worker.exit_code(Duration::from_secs(5)).await;
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_ne!(code, 0, "it left an attempt behind");
    });
}

#[test]
fn a_drain_waits_no_longer_than_it_was_told() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|_| Reply::hang()).await;
        let times = ["--attempt-timeout", "2s", "--drain-time", "2s"];
        let worker = Worker::start(world, &times).await;
        let message = |n| Message::new(&format!("user-{n}"), &format!("event-{n}"), &receiver.url());
        Producer::connect(world).await.publish_all(&(0..60).map(message).collect::<Vec<_>>()).await;
        receiver.wait_for(SOON, "fifty open requests", |log| log.open == 50).await;
        let begun = Instant::now();
        worker.signal("TERM");
        worker.exit_code(SOON).await;
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    });
}
