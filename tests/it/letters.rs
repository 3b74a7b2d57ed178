//! Messages that were made to break their dead letter: each has one, and holds up nobody.

use std::time::Duration;

use lapin::types::{AMQPValue, LongString};
use sqlx::PgPool;

use crate::support::{
    Database, DeadLetter, DeadLetters, Load, Message, Producer, Receiver, Reply, SOON, Worker, asking, run_to_end_with,
    test,
};

/// Healthy events, of the same partition.
const HEALTHY: usize = 100;

async fn publish_healthy(producer: &Producer, receiver: &Receiver, from: usize) {
    let message = |n: usize| Message::new(&format!("user-{n}"), &format!("healthy-{n}"), &receiver.url());
    producer.publish_all(&(from..from + HEALTHY).map(message).collect::<Vec<_>>()).await;
}

fn bad(key: &str) -> Message {
    Message::new("bad", key, "ftp://host/")
}

fn says(letter: &DeadLetter, name: &str, text: &str) {
    assert!(letter.text(name).contains(text), "{name}: {letter:?}");
}

#[test]
fn what_would_make_the_broker_act_on_a_letter_is_kept_as_a_header() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|request| Reply::status(if request.key == "exhausted" { 500 } else { 200 })).await;
        // The producer's user is not the worker's.
        let url = world.amqp_url_of("letters-worker").await;
        let settings = ["--partitions=1", "--max-attempts=1", "--amqp-url", &url];
        let worker = Worker::start(world, &settings).await;
        let (producer, dead_letters) = (Producer::connect(world).await, DeadLetters::open(world).await);
        let acting = |message: Message| message.user_id("guest").expiration("60000");
        producer.publish(&acting(bad("poison"))).await;
        producer.publish(&acting(Message::new("user", "exhausted", &receiver.url()))).await;
        publish_healthy(&producer, &receiver, 0).await;
        receiver.wait_for(SOON, "the healthy ones", |log| log.delivered.len() >= HEALTHY).await;
        for (key, reason) in [("poison", "bad_destination"), ("exhausted", "exhausted")] {
            let letter = dead_letters.wait_for_key(SOON, key).await;
            assert_eq!(letter.reason(), reason);
            says(&letter, "onceward-original-user-id", "guest");
            says(&letter, "onceward-original-expiration", "60000");
        }
        worker.stop().await;
    });
}

#[test]
fn a_letter_fits_its_frame_and_says_what_was_cut() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &["--partitions=1"]).await;
        let (producer, dead_letters) = (Producer::connect(world).await, DeadLetters::open(world).await);
        let filler = AMQPValue::LongString(LongString::from("f".repeat(130_500)));
        producer.publish(&bad("full").header("filler", filler)).await;
        publish_healthy(&producer, &receiver, 0).await;
        receiver.wait_for(SOON, "the healthy ones", |log| log.delivered.len() >= HEALTHY).await;
        says(&dead_letters.wait_for_key(SOON, "full").await, "onceward-cut", "headers: filler");
        worker.stop().await;
    });
}

#[test]
fn a_dead_letter_exchange_that_was_deleted_is_declared_again_and_holds_up_nobody() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &["--partitions=1"]).await;
        let (producer, dead_letters) = (Producer::connect(world).await, DeadLetters::open(world).await);
        world.delete_exchange("events.dead-letter").await;
        producer.publish(&bad("poison")).await;
        publish_healthy(&producer, &receiver, 0).await;
        receiver.wait_for(SOON, "the healthy ones", |log| log.delivered.len() >= HEALTHY).await;
        dead_letters.wait_for_key(SOON, "poison").await;
        worker.wait_for_line(SOON, "is declared again").await;
        worker.stop().await;
    });
}

#[test]
fn the_exchange_of_the_events_is_declared_again_with_its_partitions_and_said() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &[]).await;
        let told = [
            ("events", "the exchange of the events was gone"),
            ("events.partition", "the exchange of the partitions was gone"),
        ];
        for (round, (exchange, told)) in (1..).zip(told) {
            world.delete_exchange(exchange).await;
            worker.wait_for_line(SOON * 2, told).await;
            let after = format!("after-{exchange}");
            let message = Message::new("user", &after, &receiver.url());
            asking(SOON, "the exchange", async || {
                Producer::connect(world).await.try_publish(&message).await.then_some(())
            })
            .await;
            receiver.wait_for_key(SOON, &after).await;
            publish_healthy(&Producer::connect(world).await, &receiver, (round - 1) * HEALTHY).await;
            receiver.wait_for(SOON, "the healthy ones", |log| log.delivered.len() > round * HEALTHY).await;
        }
        worker.stop().await;
    });
}

#[test]
fn a_user_who_may_not_configure_works_on_what_an_administrator_has_declared() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|request| Reply::status(if request.number == 1 { 500 } else { 200 })).await;
        let url = world.amqp_url_with("reader", r#"{"configure":"","write":".*","read":".*"}"#).await;
        let variables = [("ONCEWARD_AMQP_URL", url)];
        let (code, text) = run_to_end_with(world, &["worker"], &variables).await;
        assert!(code != 0 && text.contains("it is not there"), "nothing is declared yet: {text}");
        Worker::start(world, &[]).await.stop().await;

        let worker = Worker::run_with(world, &["worker", "--backoff-initial=200ms"], &variables);
        worker.wait_for_line(SOON, "those that are there are used as they are").await;
        worker.wait_for_line(SOON, "ready: consuming").await;
        let (producer, dead_letters) = (Producer::connect(world).await, DeadLetters::open(world).await);
        producer.publish(&bad("poison")).await;
        producer.publish(&Message::new("user", "retried", &receiver.url())).await;
        receiver.wait_for_delivered(SOON, 1).await;
        dead_letters.wait_for_key(SOON, "poison").await;
        worker.stop().await;
    });
}

#[test]
fn a_dead_letter_that_is_sent_back_redrives_its_event_and_the_event_anew_does_not() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|_| Reply::status(500)).await;
        let worker = Worker::start(world, &["--max-attempts=1"]).await;
        let (producer, dead_letters) = (Producer::connect(world).await, DeadLetters::open(world).await);
        let event = Message::new("user", "event", &receiver.url());
        producer.publish(&event).await;
        let letter = dead_letters.wait_for_key(SOON, "event").await;
        receiver.behave(|_| Reply::ok());

        producer.publish(&event).await;
        let letters = dead_letters.wait_for(SOON, 2).await;
        assert_eq!(letters[1].reason(), "already_failed");
        assert_eq!(receiver.attempts().len(), 1, "it was not sent again");

        // As a shovel does it: body, key and headers as they are.
        let back = Message { headers: letter.headers.clone(), body: letter.body.clone(), ..event };
        producer.publish(&back).await;
        receiver.wait_for_key(SOON, "event").await;
        worker.stop().await;
        let state = Database::connect(world).await.state_of("event").await;
        assert_eq!(state, ("DELIVERED".to_owned(), 1));
    });
}

#[test]
fn an_event_that_waits_on_hold_is_redriven_by_its_dead_letter_too() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|_| Reply::status(500)).await;
        let worker = Worker::start(world, &["--max-attempts=1", "--on-exhausted=hold"]).await;
        let (producer, dead_letters) = (Producer::connect(world).await, DeadLetters::open(world).await);
        let event = Message::new("user", "first", &receiver.url());
        producer.publish(&event).await;
        producer.publish(&Message::new("user", "second", &receiver.url())).await;
        let letter = dead_letters.wait_for_key(SOON, "first").await;
        receiver.behave(|_| Reply::ok());
        let back = Message { headers: letter.headers.clone(), body: letter.body.clone(), ..event };
        producer.publish(&back).await;
        receiver.wait_for_key(SOON, "second").await;
        worker.stop().await;
        let keys: Vec<_> = receiver.attempts().into_iter().map(|attempt| attempt.key).collect();
        assert_eq!(keys, ["first", "first", "second"]);
    });
}

#[test]
fn a_letter_that_is_confirmed_first_acknowledges_nothing_that_is_not_recorded() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        // The queues are there.
        Worker::start(world, &["--partitions=1"]).await.stop().await;
        let producer = Producer::connect(world).await;
        let pairs = (0..20).flat_map(|n| {
            let good = Message::new(&format!("user-{n}"), &format!("good-{n}"), &receiver.url());
            [bad(&format!("poison-{n}")), good]
        });
        producer.publish_all(&pairs.collect::<Vec<_>>()).await;
        let pool = PgPool::connect(&world.database_url).await.expect("the database");
        let mut lock = pool.begin().await.expect("a transaction");
        sqlx::query("lock table event in exclusive mode").execute(&mut *lock).await.expect("a lock");
        let dead_letters = DeadLetters::open(world).await;
        let worker = Worker::start(world, &["--partitions=1"]).await;
        dead_letters.wait_for(SOON, 1).await;
        // Longer than acknowledgements wait for one another.
        tokio::time::sleep(Duration::from_millis(500)).await;
        worker.kill().await;
        lock.rollback().await.expect("a rollback");
        let worker = Worker::start(world, &["--partitions=1"]).await;
        receiver.wait_for_delivered(SOON, 20).await;
        worker.stop().await;
    });
}
