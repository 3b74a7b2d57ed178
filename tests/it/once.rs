//! One idempotency key is one execution.

use crate::support::{
    Check, Database, DeadLetters, Load, Message, Producer, Receiver, Reply, SOON, Worker, publish_from, test,
};

#[test]
fn a_key_published_a_thousand_times_from_twenty_connections_is_posted_once() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &[]).await;
        let receiver = Receiver::healthy().await;
        let copies = vec![Message::new("user-1", "only-once", &receiver.url()); 1_000];
        publish_from(world, 20, &copies).await;
        pass_through(&Producer::connect(world).await, &receiver, "after").await;
        worker.stop().await;
        assert_eq!(receiver.attempts_of("only-once").len(), 1);
        assert_eq!(Database::connect(world).await.state_of("only-once").await, ("DELIVERED".into(), 1));
    });
}

#[test]
fn a_key_that_comes_again_is_not_posted_again_even_after_a_restart() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let message = Message::new("user-1", "again", &receiver.url());
        let worker = Worker::start(world, &[]).await;
        let producer = Producer::connect(world).await;
        producer.publish(&message).await;
        receiver.wait_for_key(SOON, "again").await;
        producer.publish(&message).await;
        pass_through(&producer, &receiver, "before-restart").await;
        worker.stop().await;

        // One copy waits for the worker, one comes while it runs.
        producer.publish(&message).await;
        let worker = Worker::start(world, &[]).await;
        producer.publish(&message).await;
        pass_through(&producer, &receiver, "after-restart").await;
        worker.stop().await;
        assert_eq!(receiver.attempts_of("again").len(), 1);
    });
}

#[test]
fn a_key_that_comes_again_while_its_event_is_retried_starts_nothing_new() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|request| Reply::status(if request.number < 3 { 503 } else { 200 })).await;
        let worker = Worker::start(world, &["--backoff-initial", "300ms"]).await;
        let producer = Producer::connect(world).await;
        let message = Message::new("user-1", "retried", &receiver.url());
        for attempts in 1..=3 {
            producer.publish(&message).await;
            receiver.wait_for(SOON, "the next attempt", |log| log.attempts.len() >= attempts).await;
        }
        receiver.wait_for_key(SOON, "retried").await;
        worker.stop().await;
        assert_eq!(receiver.attempts().len(), 3);
        Check::new(receiver.attempts(), 5).numbers_without_holes().nothing_resent();
    });
}

#[test]
fn a_key_with_other_content_is_dead_lettered_as_a_conflict() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &[]).await;
        let producer = Producer::connect(world).await;
        let first = Message::new("user-1", "taken", &receiver.url());
        producer.publish(&first).await;
        receiver.wait_for_key(SOON, "taken").await;

        let others = [
            first.clone().body("another body"),
            Message::new("user-1", "taken", &receiver.url_of("/elsewhere")),
            Message::new("user-2", "taken", &receiver.url()),
            first.clone().sequence(1),
        ];
        let dead_letters = DeadLetters::open(world).await;
        for (count, other) in (1..).zip(&others) {
            producer.publish(other).await;
            let letter = dead_letters.wait_for(SOON, count).await.pop().expect("it came");
            assert_eq!(letter.reason(), "key_conflict", "{other:?}");
            assert!(letter.detail().contains("key was used before"), "{}", letter.detail());
            assert_eq!((&letter.body, &letter.entity), (&other.body, &other.entity));
        }
        worker.stop().await;
        assert_eq!(receiver.attempts().len(), 1);
    });
}

#[test]
fn a_conflict_that_arrives_together_with_the_first_of_its_key_is_told_from_it() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &[]).await;
        let dead_letters = DeadLetters::open(world).await;
        let mut messages = Vec::new();
        for number in 0..50 {
            let message = Message::new(&format!("user-{number}"), &format!("key-{number}"), &receiver.url());
            messages.extend([message.clone(), message.clone(), message.body("another body")]);
        }
        Producer::connect(world).await.publish_all(&messages).await;
        receiver.wait_for_delivered(SOON, 50).await;
        let letters = dead_letters.wait_for(SOON, 50).await;
        worker.stop().await;
        assert!(letters.iter().all(|letter| letter.reason() == "key_conflict" && letter.body == b"another body"));
        assert_eq!((receiver.attempts().len(), dead_letters.taken().len()), (50, 50));
    });
}

/// Each partition's queue is taken in from front to back: when these events have arrived, so has all that was
/// published before them.
async fn pass_through(producer: &Producer, receiver: &Receiver, name: &str) {
    let before = receiver.log().delivered.len();
    let markers: Vec<_> =
        (0..64).map(|number| format!("{name}-{number}")).map(|key| Message::new(&key, &key, &receiver.url())).collect();
    producer.publish_all(&markers).await;
    receiver.wait_for_delivered(SOON, before + markers.len()).await;
}
