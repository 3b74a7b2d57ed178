//! What ends an event: the last attempt, a status that is not retried; and what happens to its entity then.

use std::time::Duration;

use crate::support::{
    Database, DeadLetters, Gate, Load, Message, Producer, Receiver, Reply, SOON, Which, Worker, World, asking,
    run_to_end, test, test_on_private_servers,
};

const QUICK: [&str; 4] = ["--max-attempts", "2", "--backoff-initial", "100ms"];

#[test]
fn a_status_that_is_not_retried_dead_letters_at_once() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &["--final-statuses", "400,410-422"]).await;
        let receiver = Receiver::new(|request| match request.key {
            "gone" => Reply::status(410).body("this user was deleted"),
            "bad" => Reply::status(400),
            "busy" if request.number == 1 => Reply::status(429),
            _ => Reply::ok(),
        })
        .await;
        let dead_letters = DeadLetters::open(world).await;
        let producer = Producer::connect(world).await;
        for key in ["gone", "bad", "busy", "fine"] {
            producer.publish(&Message::new("one-user", key, &receiver.url())).await;
        }
        receiver.wait_for_key(SOON, "fine").await;
        let letters = dead_letters.wait_for(SOON, 2).await;
        worker.stop().await;
        let numbers: Vec<_> = receiver.attempts().into_iter().map(|attempt| (attempt.key, attempt.number)).collect();
        let expected = [("gone", 1), ("bad", 1), ("busy", 1), ("busy", 2), ("fine", 1)];
        assert_eq!(numbers, expected.map(|(key, number)| (key.to_owned(), number)));
        for letter in letters {
            assert_eq!((letter.reason().as_str(), letter.attempts()), ("final_status", 1));
            assert_eq!(letter.history().len(), 1);
        }
    });
}

#[test]
fn a_host_that_refuses_hangs_or_breaks_off_is_told_apart_in_the_history() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &[&QUICK[..], &["--attempt-timeout", "700ms"]].concat()).await;
        let dead_letters = DeadLetters::open(world).await;
        let hanging = Receiver::new(|_| Reply::hang()).await;
        let unknown = "http://no-such-host.invalid/";
        let urls = [("refuses", "http://127.0.0.9:1/"), ("hangs", &hanging.url()), ("unknown", unknown)];
        let producer = Producer::connect(world).await;
        for (key, url) in urls {
            producer.publish(&Message::new(key, key, url)).await;
        }
        let mut errors = Vec::new();
        for (key, _) in urls {
            let letter = dead_letters.wait_for_key(SOON, key).await;
            assert_eq!((letter.reason().as_str(), letter.attempts()), ("exhausted", 2));
            let history = letter.history();
            assert!(history.iter().all(|entry| entry["status"].is_null()), "{history:?}");
            errors.push(history[1]["error"].as_str().expect("a sentence").to_owned());
        }
        worker.stop().await;
        let words = ["refused", "700", "dns"];
        for (error, word) in errors.iter().zip(words) {
            assert!(error.contains(word), "{error:?} was to tell of {word:?}");
        }
    });
}

#[test]
fn with_hold_an_exhausted_event_holds_its_entity_and_no_other() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|request| Reply::status(if request.key == "held-1" { 500 } else { 200 })).await;
        let worker = hold(world).await;
        let producer = Producer::connect(world).await;
        let dead_letters = DeadLetters::open(world).await;
        for key in ["held-1", "held-2", "held-3"] {
            producer.publish(&Message::new("held", key, &receiver.url())).await;
        }
        assert_eq!(dead_letters.wait_for_key(SOON, "held-1").await.reason(), "exhausted");
        one_passes_by(&producer, &receiver, "before").await;
        worker.stop().await;
        let worker = hold(world).await;
        one_passes_by(&producer, &receiver, "after").await;
        worker.stop().await;
        assert!(receiver.attempts_of("held-2").is_empty(), "it waits for an operator, also after a restart");
        let database = Database::connect(world).await;
        assert_eq!(database.state_of("held-1").await, ("FAILED".into(), 2));
        assert_eq!(database.state_of("held-2").await, ("PENDING".into(), 0));
    });
}

#[test]
fn without_hold_an_exhausted_event_is_final_and_its_entity_goes_on() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|request| Reply::status(if request.key == "first" { 500 } else { 200 })).await;
        let worker = Worker::start(world, &QUICK).await;
        let producer = Producer::connect(world).await;
        let dead_letters = DeadLetters::open(world).await;
        for key in ["first", "second", "third"] {
            producer.publish(&Message::new("one-user", key, &receiver.url())).await;
        }
        receiver.wait_for_key(SOON, "third").await;
        dead_letters.wait_for_key(SOON, "first").await;
        worker.stop().await;
        let states = Database::connect(world).await.states().await;
        assert_eq!(states, [("DELIVERED".to_owned(), 2), ("FAILED".to_owned(), 1)].into());
        assert_eq!(dead_letters.taken().len(), 1);
    });
}

#[test]
fn more_attempts_and_other_delays_are_settings() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|_| Reply::status(500)).await;
        let settings = ["--max-attempts", "8", "--backoff-initial", "100ms", "--backoff-max", "200ms"];
        let worker = Worker::start(world, &settings).await;
        let dead_letters = DeadLetters::open(world).await;
        Producer::connect(world).await.publish(&Message::new("user", "eight", &receiver.url())).await;
        let letter = dead_letters.wait_for_key(SOON, "eight").await;
        worker.stop().await;
        assert_eq!((letter.attempts(), letter.history().len(), receiver.attempts().len()), (8, 8, 8));
        let first = receiver.attempts()[0].started;
        let last = receiver.attempts()[7].started;
        assert!(last - first < Duration::from_secs(5), "1.3 s of delays, not {:?}", last - first);
    });
}

#[test]
fn the_program_says_what_it_can_do() {
    test(Load::Shared, async |world| {
        let (code, help) = run_to_end(world, &["worker", "--help"]).await;
        assert_eq!(code, 0);
        for setting in ["ONCEWARD_MAX_ATTEMPTS", "--attempt-timeout", "5s", "--on-exhausted"] {
            assert!(help.contains(setting), "{setting} is not in the help:\n{help}");
        }
        assert!(!help.contains(&world.database_url), "values of secret settings are not shown");
    });
}

#[test]
fn a_broker_that_is_frozen_while_events_are_dead_lettered_gets_one_letter_for_each() {
    test_on_private_servers(Load::Shared, async |world, servers| {
        let gate = Gate::closed();
        let behind = gate.clone();
        let receiver = Receiver::new(move |_| Reply::status(500).behind(&behind)).await;
        let patient = ["--max-attempts", "1", "--attempt-timeout", "20s", "--lease", "30s"];
        let worker = Worker::start(world, &patient).await;
        let message = |n| Message::new(&format!("user-{n}"), &format!("event-{n}"), &receiver.url());
        Producer::connect(world).await.publish_all(&(0..40).map(message).collect::<Vec<_>>()).await;
        receiver.wait_for(SOON, "forty open requests", |log| log.open == 40).await;
        servers.signal(Which::Broker, "STOP");
        gate.open();
        // The fault itself is a duration.
        tokio::time::sleep(Duration::from_secs(8)).await;
        servers.signal(Which::Broker, "CONT");
        let database = Database::connect(world).await;
        let none_waits = async || (database.unpublished().await == 0).then_some(());
        asking(SOON, "the record of forty dead letters", none_waits).await;
        worker.stop().await;

        // Behind all that the worker has published.
        let last = Message::new("last", "last", &receiver.url());
        Producer::connect(world).await.through("events.dead-letter").publish(&last).await;
        let dead_letters = DeadLetters::open(world).await;
        dead_letters.wait_for_key(SOON, "last").await;
        let mut letters: Vec<_> = dead_letters.taken().into_iter().filter_map(|letter| letter.key).collect();
        assert_eq!(letters.len(), 40 + 1, "{letters:?}");
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), 40 + 1, "one for each");
        assert_eq!(receiver.attempts().len(), 40);
    });
}

async fn hold(world: &World) -> Worker {
    Worker::start(world, &[&QUICK[..], &["--on-exhausted", "hold", "--partitions", "1"]].concat()).await
}

async fn one_passes_by(producer: &Producer, receiver: &Receiver, key: &str) {
    producer.publish(&Message::new("somebody-else", key, &receiver.url())).await;
    receiver.wait_for_key(SOON, key).await;
}
