//! Attempts that fail come again at 1, 2, 4 and 8 s; the fifth failure is the last.

use std::time::Duration;

use lapin::types::AMQPValue;

use crate::support::{Attempt, DeadLetter, DeadLetters, Load, Message, Producer, Receiver, Reply, SOON, Worker, test};

/// How much later than its delay and jitter an attempt may come.
const LATE: Duration = Duration::from_millis(250);
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn the_fifth_failure_after_1_2_4_and_8_seconds_dead_letters_and_the_next_event_goes_out() {
    test(Load::Alone, async |world| {
        let worker = Worker::start(world, &[]).await;
        let receiver = Receiver::new(|request| Reply::status(if request.key == "fails" { 503 } else { 200 })).await;
        let dead_letters = DeadLetters::open(world).await;
        let producer = Producer::connect(world).await;
        let fails = Message::new("user-1", "fails", &receiver.url())
            .text("traceparent", TRACEPARENT)
            .text("http-x-tenant", "blue")
            .header("anything-else", AMQPValue::Boolean(true))
            .body([0, 159, 146, 150, 255]);
        producer.publish(&fails).await;
        producer.publish(&Message::new("user-1", "behind-it", &receiver.url())).await;
        for attempt in 1..=5 {
            let wait = Duration::from_secs(12);
            receiver.wait_for(wait, "the next attempt", |log| of(&log.attempts, "fails") == attempt).await;
            others_go_on(&producer, &receiver, attempt).await;
        }
        let letter = dead_letters.wait_for_key(SOON, "fails").await;
        receiver.wait_for_key(SOON, "behind-it").await;
        worker.stop().await;

        let attempts = receiver.attempts_of("fails");
        came_at(&attempts, &[1, 2, 4, 8]);
        let behind = &receiver.attempts_of("behind-it")[0];
        let last = attempts[4].ended.expect("it was answered");
        assert!(behind.started >= last && behind.started - last < LATE, "the next event goes out at once");
        is_whole(&letter, &fails);
        tells_the_history(&letter, &attempts);
        let traces: Vec<_> = attempts.iter().map(|attempt| attempt.header("traceparent")).collect();
        assert!(traces.iter().all(|trace| *trace == traces[0]), "the trace is carried over every retry: {traces:?}");
    });
}

#[test]
fn a_retry_after_of_the_receiver_is_kept_to() {
    test(Load::Alone, async |world| {
        let worker = Worker::start(world, &[]).await;
        let receiver = Receiver::new(|request| match request.number {
            1 => Reply::status(429).header("retry-after", "3"),
            _ => Reply::ok(),
        })
        .await;
        Producer::connect(world).await.publish(&Message::new("user-1", "later", &receiver.url())).await;
        receiver.wait_for_key(SOON, "later").await;
        worker.stop().await;
        came_at(&receiver.attempts(), &[3]);
    });
}

#[test]
fn many_retries_at_one_time_come_back_on_time() {
    test(Load::Alone, async |world| {
        let worker = Worker::start(world, &[]).await;
        let receiver = Receiver::new(|request| Reply::status(if request.number < 3 { 500 } else { 200 })).await;
        let message = |number| Message::new(&format!("user-{number}"), &format!("event-{number}"), &receiver.url());
        Producer::connect(world).await.publish_all(&(0..200).map(message).collect::<Vec<_>>()).await;
        receiver.wait_for_delivered(SOON, 200).await;
        worker.stop().await;
        for number in 0..200 {
            came_at(&receiver.attempts_of(&format!("event-{number}")), &[1, 2]);
        }
    });
}

/// While one event fails, twenty of other entities go their way, within a second.
async fn others_go_on(producer: &Producer, receiver: &Receiver, round: usize) {
    let before = receiver.log().delivered.len();
    let names = (0..20).map(|number| format!("other-{round}-{number}"));
    let others: Vec<_> = names.map(|name| Message::new(&name, &name, &receiver.url())).collect();
    producer.publish_all(&others).await;
    receiver.wait_for_delivered(Duration::from_secs(1), before + others.len()).await;
}

fn of(attempts: &[Attempt], key: &str) -> usize {
    attempts.iter().filter(|attempt| attempt.key == key && attempt.ended.is_some()).count()
}

/// The time from each attempt's end to the next one's beginning: the delay, up to 10 % more, and a little late.
fn came_at(attempts: &[Attempt], seconds: &[u64]) {
    let pairs = attempts.windows(2).map(|pair| pair[1].started - pair[0].ended.expect("it was answered"));
    let waits: Vec<_> = pairs.collect();
    let expected: Vec<_> = seconds.iter().map(|seconds| Duration::from_secs(*seconds)).collect();
    let on_time = |(wait, expected): (&Duration, &Duration)| *wait >= *expected && *wait <= *expected * 11 / 10 + LATE;
    assert!(
        waits.len() == expected.len() && waits.iter().zip(&expected).all(on_time),
        "{}: waits were {waits:?}, not {expected:?}",
        attempts[0].key
    );
}

fn is_whole(letter: &DeadLetter, message: &Message) {
    assert_eq!(letter.entity, message.entity);
    assert_eq!(letter.content_type, message.content_type);
    assert_eq!(letter.body, message.body);
    for (name, value) in message.headers.inner() {
        assert_eq!(letter.header(name.as_str()), value, "the original header {name}");
    }
}

fn tells_the_history(letter: &DeadLetter, attempts: &[Attempt]) {
    assert_eq!((letter.reason().as_str(), letter.attempts()), ("exhausted", 5));
    let history = letter.history();
    assert_eq!(history.len(), attempts.len());
    let first = time_of(&history[0]);
    for (number, (entry, attempt)) in (1..).zip(history.iter().zip(attempts)) {
        assert_eq!((entry["attempt"].as_u64(), entry["status"].as_u64()), (Some(number), Some(503)), "{entry}");
        assert!(entry["duration_ms"].is_u64(), "{entry}");
        // The worker's clock and the receiver's agree on what lies between two attempts.
        let told = time_of(entry).duration_since(first).expect("later attempts come later");
        let seen = attempt.started - attempts[0].started;
        assert!(told.abs_diff(seen) < LATE, "{entry}: {told:?} after the first, not {seen:?}");
    }
}

fn time_of(entry: &serde_json::Value) -> std::time::SystemTime {
    let text = entry["started_at"].as_str().expect("started_at");
    humantime::parse_rfc3339_weak(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}
