//! What an operator does: looks at the status, sends FAILED events again, lets an entity go on without one.

use std::time::Duration;

use crate::support::{
    Database, DeadLetters, Load, Message, Producer, Receiver, Reply, SOON, Worker, World, run_to_end, test,
};

const HOLD: [&str; 6] = ["--max-attempts", "1", "--on-exhausted", "hold", "--partitions", "1"];

/// A worker whose entity `held` waits at its first event, which has failed; the receiver takes it from now on.
async fn held(world: &World, sequence: bool) -> (Worker, Receiver) {
    let receiver = Receiver::new(|request| Reply::status(if request.key == "held-1" { 500 } else { 200 })).await;
    let worker = Worker::start(world, &HOLD).await;
    let producer = Producer::connect(world).await;
    let dead_letters = DeadLetters::open(world).await;
    for number in 1..=3 {
        let message = Message::new("held", &format!("held-{number}"), &receiver.url());
        producer.publish(&if sequence { message.sequence(number) } else { message }).await;
    }
    dead_letters.wait_for_key(SOON, "held-1").await;
    receiver.behave(|_| Reply::ok());
    (worker, receiver)
}

fn keys(receiver: &Receiver) -> Vec<String> {
    receiver.attempts().into_iter().filter_map(|attempt| attempt.header("idempotency-key").map(str::to_owned)).collect()
}

#[test]
fn a_held_event_is_sent_again_by_a_redrive_and_its_entity_goes_on_after_it() {
    test(Load::Shared, async |world| {
        let (worker, receiver) = held(world, false).await;
        let (code, text) = run_to_end(world, &["redrive", "held-1"]).await;
        assert_eq!(code, 0, "{text}");
        receiver.wait_for_key(SOON, "held-3").await;
        assert_eq!(keys(&receiver), ["held-1", "held-1", "held-2", "held-3"]);
        worker.stop().await;
        assert_eq!(Database::connect(world).await.state_of("held-1").await, ("DELIVERED".into(), 1));
    });
}

#[test]
fn a_skipped_event_stays_failed_and_the_numbers_go_on_behind_it() {
    test(Load::Shared, async |world| {
        let (worker, receiver) = held(world, true).await;
        let (code, text) = run_to_end(world, &["redrive", "--skip", "held-1"]).await;
        assert_eq!(code, 0, "{text}");
        receiver.wait_for_key(SOON, "held-3").await;
        assert_eq!(keys(&receiver), ["held-1", "held-2", "held-3"]);
        worker.stop().await;
        assert_eq!(Database::connect(world).await.state_of("held-1").await, ("FAILED".into(), 1));
    });
}

#[test]
fn an_event_that_its_entity_has_gone_past_is_sent_again_by_a_redrive() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|request| Reply::status(if request.key == "first" { 500 } else { 200 })).await;
        let worker = Worker::start(world, &["--max-attempts", "1", "--partitions", "1"]).await;
        let producer = Producer::connect(world).await;
        producer.publish(&Message::new("user", "first", &receiver.url()).sequence(1)).await;
        producer.publish(&Message::new("user", "second", &receiver.url()).sequence(2)).await;
        receiver.wait_for_key(SOON, "second").await;
        receiver.behave(|_| Reply::ok());
        let (code, text) = run_to_end(world, &["redrive", "first", "second", "nobody"]).await;
        assert_eq!(code, 1, "two of the keys name no FAILED event: {text}");
        assert!(text.contains("second: is DELIVERED") && text.contains("nobody: no such event"), "{text}");
        receiver.wait_for_key(SOON, "first").await;
        producer.publish(&Message::new("user", "third", &receiver.url()).sequence(3)).await;
        receiver.wait_for_key(SOON, "third").await;
        worker.stop().await;
        assert_eq!(keys(&receiver), ["first", "second", "first", "third"]);
    });
}

#[test]
fn status_tells_who_waits_for_what() {
    test(Load::Shared, async |world| {
        let (worker, receiver) = held(world, false).await;
        let producer = Producer::connect(world).await;
        producer.publish(&Message::new("gap", "gap-2", &receiver.url()).sequence(2)).await;
        Database::connect(world).await.wait_for_recorded(SOON, 4).await;
        let (code, text) = run_to_end(world, &["status", "--json"]).await;
        assert_eq!(code, 0, "{text}");
        let status: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let blocked = status["blocked"].as_array().expect("a list");
        let waits = |entity: &str| {
            let row = blocked.iter().find(|row| row["entity"] == entity);
            row.unwrap_or_else(|| panic!("{entity} is not among the blocked: {status:#}"))["waits_for"].clone()
        };
        assert_eq!((waits("held"), waits("gap")), ("operator".into(), "sequence 1".into()));
        assert_eq!(status["partitions"][0]["open"], 4);
        let (code, table) = run_to_end(world, &["status"]).await;
        assert_eq!(code, 0, "{table}");
        for word in ["Partitions", "operator", "sequence 1", "PENDING", "FAILED"] {
            assert!(table.contains(word), "{word} is not in\n{table}");
        }
        worker.stop().await;
    });
}

#[test]
fn a_redrive_on_a_database_that_no_worker_has_set_up_says_so() {
    test(Load::Shared, async |world| {
        let (code, text) = run_to_end(world, &["redrive", "one"]).await;
        assert!(code == 1 && text.starts_with("onceward: this database holds no Onceward yet"), "{text}");
    });
}

#[test]
fn what_publish_sends_arrives_and_what_it_can_not_send_is_told() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let (code, text) =
            run_to_end(world, &["publish", "--entity", "a", "--destination", &receiver.url(), "--body", "{}"]).await;
        assert_ne!(code, 0);
        assert!(text.contains("exchange `events` does not exist"), "{text}");
        let worker = Worker::start(world, &[]).await;
        let one = ["publish", "--entity", "user 1", "--destination", &receiver.url(), "--key", "one", "--body", "{}"];
        let (code, text) = run_to_end(world, &[&one[..], &["--header", "x-a:b", "--sequence", "1"]].concat()).await;
        assert_eq!(code, 0, "{text}");
        receiver.wait_for_key(Duration::from_secs(20), "one").await;
        let attempt = &receiver.attempts_of("one")[0];
        assert_eq!((attempt.header("x-a"), attempt.header("onceward-entity")), (Some("b"), Some("user%201")));
        let wrong = ["publish", "--entity", "user", "--destination", "ftp://host/", "--body", "{}"];
        let (code, text) = run_to_end(world, &wrong).await;
        assert_ne!(code, 0);
        assert!(text.contains("not http or https"), "{text}");
        worker.stop().await;
    });
}
