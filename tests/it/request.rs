//! What the receiver gets.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lapin::types::AMQPValue;

use crate::support::{
    Attempt, Database, DeadLetters, Load, Message, Producer, Receiver, Reply, SOON, Worker, World, test,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[test]
fn the_body_arrives_byte_for_byte() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &[]).await;
        let receiver = Receiver::healthy().await;
        let all_bytes: Vec<u8> = (0..=255).collect();
        let bodies = [
            ("empty", Vec::new()),
            ("binary", all_bytes.repeat(10)),
            ("text", "größer als \u{1f409}\0\r\n".as_bytes().to_vec()),
            ("a-mebibyte", vec![0xa5; 1_048_576]),
        ];
        let producer = Producer::connect(world).await;
        for (key, body) in &bodies {
            producer.publish(&Message::new("user", key, &receiver.url()).body(body.clone())).await;
            receiver.wait_for_key(SOON, key).await;
            let attempt = &receiver.attempts_of(key)[0];
            assert!(attempt.body == *body, "{key}: {} bytes came", attempt.body.len());
            assert_eq!(attempt.header("content-length"), Some(body.len().to_string().as_str()));
        }
        let database = Database::connect(world).await;
        for (key, compression) in [("a-mebibyte", Some("lz4")), ("text", None)] {
            assert_eq!(database.compression_of(key).await.as_deref(), compression, "{key}");
        }
        worker.stop().await;
    });
}

#[test]
fn the_headers_tell_key_entity_number_attempt_and_time() {
    test(Load::Shared, async |world| {
        let message = |url: &str| Message::new("user-1", "order:17", url).sequence(1);
        let attempt = deliver(world, message).await;
        let expected = [
            ("idempotency-key", "order:17"),
            ("webhook-id", "order:17"),
            ("onceward-entity", "user-1"),
            ("onceward-sequence", "1"),
            ("onceward-attempt", "1"),
            ("content-type", "application/json"),
        ];
        for (name, value) in expected {
            assert_eq!(attempt.header(name), Some(value), "{name}");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let told: u64 = attempt.header("webhook-timestamp").and_then(|text| text.parse().ok()).expect("seconds");
        assert!(now.abs_diff(told) < 30, "webhook-timestamp is {told}, now is {now}");
        assert_eq!(attempt.path, "/events");
    });
}

#[test]
fn an_event_without_content_type_or_number_is_sent_without() {
    test(Load::Shared, async |world| {
        let message = |url: &str| Message { content_type: None, ..Message::new("user-1", "bare", url) };
        let attempt = deliver(world, message).await;
        assert_eq!((attempt.header("content-type"), attempt.header("onceward-sequence")), (None, None));
    });
}

#[test]
fn an_entity_of_any_letters_arrives_as_a_valid_header() {
    test(Load::Shared, async |world| {
        let attempt = deliver(world, |url| Message::new("größe 5/a,b", "letters", url)).await;
        let decoded = percent_encoding::percent_decode_str(&attempt.entity).decode_utf8_lossy().into_owned();
        assert_eq!(decoded, "größe 5/a,b", "as UTF-8 or percent-encoded: {}", attempt.entity);
    });
}

#[test]
fn http_headers_of_the_message_are_passed_on_without_their_prefix() {
    test(Load::Shared, async |world| {
        let attempt = deliver(world, |url| {
            Message::new("user-1", "headers", url)
                .text("http-authorization", "Bearer abc")
                .text("http-X-Tenant", "blue")
                .header("http-x-retries", AMQPValue::LongInt(3))
                .text("not-for-http", "stays here")
        })
        .await;
        let expected = [("authorization", "Bearer abc"), ("x-tenant", "blue"), ("x-retries", "3")];
        for (name, value) in expected {
            assert_eq!(attempt.header(name), Some(value), "{name}");
        }
        assert!(attempt.headers.keys().all(|name| !name.as_str().contains("not-for-http")));
    });
}

#[test]
fn the_trace_of_the_producer_is_carried_on() {
    test(Load::Shared, async |world| {
        let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let attempt = deliver(world, |url| {
            let message = Message::new("user-1", "traced", url);
            message.text("traceparent", &parent).text("tracestate", "vendor=value")
        })
        .await;
        let trace = attempt.header("traceparent").expect("a trace");
        assert_eq!(trace.split('-').nth(1), Some(TRACE));
        assert_eq!(attempt.header("tracestate"), Some("vendor=value"));
    });
}

#[test]
fn an_event_without_a_trace_gets_one_that_is_the_same_for_every_attempt() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|request| Reply::status(if request.number < 3 { 500 } else { 200 })).await;
        let worker = Worker::start(world, &["--backoff-initial", "100ms"]).await;
        Producer::connect(world).await.publish(&Message::new("user-1", "untraced", &receiver.url())).await;
        receiver.wait_for_key(SOON, "untraced").await;
        worker.stop().await;
        let trace = |attempt: &Attempt| {
            let parts: Vec<_> = attempt.header("traceparent").expect("a trace").split('-').map(str::to_owned).collect();
            parts[1].clone()
        };
        let traces: Vec<_> = receiver.attempts().iter().map(trace).collect();
        assert!(traces.len() == 3 && traces.iter().all(|trace| *trace == traces[0]), "{traces:?}");
    });
}

#[test]
fn a_redirect_is_a_failure_and_never_followed() {
    test(Load::Shared, async |world| {
        let target = Receiver::healthy().await;
        let url = target.url();
        let receiver = Receiver::new(move |request| {
            let status = if request.number == 1 { 307 } else { 302 };
            Reply::status(status).header("location", &url)
        })
        .await;
        let worker = Worker::start(world, &["--max-attempts", "2", "--backoff-initial", "100ms"]).await;
        let dead_letters = DeadLetters::open(world).await;
        Producer::connect(world).await.publish(&Message::new("user-1", "redirected", &receiver.url())).await;
        let letter = dead_letters.wait_for_key(SOON, "redirected").await;
        worker.stop().await;
        let statuses: Vec<_> = letter.history().iter().map(|entry| entry["status"].as_u64()).collect();
        assert_eq!(statuses, [Some(307), Some(302)]);
        assert_eq!((receiver.attempts().len(), target.attempts().len()), (2, 0));
    });
}

#[test]
fn a_long_answer_is_read_up_to_a_limit_and_kept_short() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|request| match request.number {
            1 => Reply::status(500).body("no room: ".to_owned() + &"x".repeat(20_000_000)),
            _ => Reply::ok().body(vec![b'y'; 20_000_000]),
        })
        .await;
        let worker = Worker::start(world, &["--backoff-initial", "100ms"]).await;
        Producer::connect(world).await.publish(&Message::new("user-1", "long-answer", &receiver.url())).await;
        receiver.wait_for_key(SOON, "long-answer").await;
        Producer::connect(world).await.publish(&Message::new("user-1", "behind", &receiver.url())).await;
        receiver.wait_for(SOON, "the next event", |log| log.attempts.iter().any(|a| a.key == "behind")).await;
        worker.stop().await;
        assert_eq!(receiver.attempts_of("long-answer").len(), 2, "a 2xx is a success, however long its body");
    });
}

#[test]
fn an_answer_that_comes_too_late_is_a_failure() {
    test(Load::Shared, async |world| {
        let late = |request: &crate::support::Request<'_>| {
            Reply::ok().after(Duration::from_millis(if request.number == 1 { 2_000 } else { 0 }))
        };
        let receiver = Receiver::new(late).await;
        let settings = ["--attempt-timeout", "1s", "--backoff-initial", "100ms"];
        let worker = Worker::start(world, &settings).await;
        Producer::connect(world).await.publish(&Message::new("user-1", "late", &receiver.url())).await;
        receiver.wait_for_key(SOON, "late").await;
        worker.stop().await;
        let attempts = receiver.attempts();
        assert_eq!((attempts.len(), attempts[0].status, attempts[1].status), (2, None, Some(200)));
        let between = attempts[1].started - attempts[0].started;
        assert!(between > Duration::from_secs(1) && between < Duration::from_secs(3), "{between:?}");
    });
}

#[test]
fn events_without_a_destination_go_to_the_default_one() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let other = Receiver::healthy().await;
        let default = receiver.url_of("/default");
        let worker = Worker::start(world, &["--default-destination", &default]).await;
        let producer = Producer::connect(world).await;
        let mut without = Message::new("user-1", "without", "");
        without.headers = lapin::types::FieldTable::default();
        producer.publish(&without).await;
        producer.publish(&Message::new("user-1", "with", &other.url())).await;
        receiver.wait_for_key(SOON, "without").await;
        other.wait_for_key(SOON, "with").await;
        worker.stop().await;
        assert_eq!(receiver.attempts()[0].path, "/default");
    });
}

/// The one attempt that delivers a message.
async fn deliver(world: &World, message: impl FnOnce(&str) -> Message) -> Attempt {
    let receiver = Receiver::healthy().await;
    let message = message(&receiver.url());
    let worker = Worker::start(world, &[]).await;
    Producer::connect(world).await.publish(&message).await;
    receiver.wait_for_key(SOON, message.name()).await;
    worker.stop().await;
    let mut attempts = receiver.attempts();
    assert_eq!(attempts.len(), 1);
    attempts.remove(0)
}
