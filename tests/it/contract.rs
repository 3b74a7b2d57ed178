//! Messages that break the contract: each one is dead-lettered with a reason, and the worker goes on.

use lapin::types::{AMQPValue, FieldArray, LongString};

use crate::support::{Database, DeadLetters, Load, Message, Producer, Receiver, SOON, Worker, publish_from, test};

/// A message, the code of what is wrong with it, and words that a person finds in the explanation.
type Case = (Message, &'static str, &'static str);

#[test]
fn every_break_of_the_contract_is_dead_lettered_with_its_reason_and_the_worker_goes_on() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &["--body-limit", "1000"]).await;
        let receiver = Receiver::healthy().await;
        let producer = Producer::connect(world).await;
        let dead_letters = DeadLetters::open(world).await;
        let cases = cases(&receiver.url());
        for (count, (message, code, words)) in (1..).zip(&cases) {
            producer.publish(message).await;
            let letter = dead_letters.wait_for(SOON, count).await.pop().expect("it came");
            assert_eq!(letter.reason(), *code, "{message:?}");
            assert!(letter.detail().contains(words), "{words:?} is not in {:?}", letter.detail());
            assert_eq!((&letter.entity, &letter.key, &letter.body), (&message.entity, &message.key, &message.body));
            assert_eq!(letter.content_type, message.content_type);
            for (name, value) in message.headers.inner() {
                assert_eq!(letter.header(name.as_str()), value, "the original header {name}");
            }
        }
        producer.publish(&Message::new("user-1", "good", &receiver.url())).await;
        receiver.wait_for_key(SOON, "good").await;
        worker.stop().await;
        assert_eq!(receiver.attempts().len(), 1, "only the good one is sent");
        assert_eq!(dead_letters.taken().len(), cases.len(), "each is dead-lettered once");
        assert_eq!(Database::connect(world).await.events().await.len(), 1);
    });
}

#[test]
fn a_thousand_bad_messages_among_good_ones_hold_up_nothing() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &[]).await;
        let receiver = Receiver::healthy().await;
        let dead_letters = DeadLetters::open(world).await;
        let mut messages = Vec::new();
        for number in 0..1_000 {
            let (entity, key) = (format!("user-{}", number % 100), format!("event-{number}"));
            messages.push(Message::new(&entity, &format!("bad-{number}"), "ftp://host/"));
            messages.push(Message::new(&entity, &key, &receiver.url()));
        }
        publish_from(world, 5, &messages).await;
        receiver.wait_for_delivered(SOON, 1_000).await;
        let letters = dead_letters.wait_for(SOON, 1_000).await;
        worker.stop().await;
        assert!(letters.iter().all(|letter| letter.reason() == "bad_destination"));
        assert_eq!(receiver.attempts().len(), 1_000);
    });
}

fn cases(url: &str) -> Vec<Case> {
    let good = |key: &str| Message::new("user-1", key, url);
    let no_key = Message { key: None, ..good("") };
    let no_entity = Message { entity: String::new(), ..good("no-entity") };
    let mut no_destination = good("no-destination");
    no_destination.headers = [("anything".into(), AMQPValue::Boolean(true))]
        .into_iter()
        .collect::<std::collections::BTreeMap<_, _>>()
        .into();
    let destination = |key, url| Message::new("user-1", key, url);
    let typed = |key, name, value| good(key).header(name, value);
    vec![
        (no_key, "missing_message_id", "message_id"),
        (good(""), "missing_message_id", "message_id"),
        (good(&"k".repeat(201)), "bad_message_id", "201 bytes"),
        (good("two words"), "bad_message_id", "space"),
        (no_entity, "missing_entity", "routing key"),
        (Message { entity: "line\nbreak".into(), ..good("bad-entity") }, "bad_entity", "control character"),
        (no_destination, "missing_destination", "destination"),
        (destination("empty", ""), "bad_destination", "destination"),
        (destination("relative", "/orders"), "bad_destination", "/orders"),
        (destination("ftp", "ftp://host/file"), "bad_destination", "not http"),
        (destination("file", "file:///etc/passwd"), "bad_destination", "not http"),
        (destination("no-host", "http://"), "bad_destination", "host"),
        (destination("long", &format!("{url}?{}", "q".repeat(2_048))), "bad_destination", "limit"),
        (typed("destination-type", "destination", AMQPValue::LongInt(5)), "wrong_header_type", "`destination`"),
        (
            typed("sequence-text", "sequence", AMQPValue::LongString(LongString::from("5"))),
            "wrong_header_type",
            "`sequence`",
        ),
        (typed("sequence-double", "sequence", AMQPValue::Double(1.5)), "wrong_header_type", "`sequence`"),
        (good("negative").sequence(-1), "bad_sequence", "-1"),
        (
            typed("array", "http-x-list", AMQPValue::FieldArray(FieldArray::default())),
            "wrong_header_type",
            "`http-x-list`",
        ),
        (good("twice").text("Destination", "http://elsewhere/"), "repeated_header", "twice"),
        (good("host").text("http-host", "elsewhere"), "forbidden_header", "http-host"),
        (good("length").text("http-content-length", "3"), "forbidden_header", "http-content-length"),
        (good("connection").text("http-connection", "close"), "forbidden_header", "http-connection"),
        (good("key").text("http-idempotency-key", "mine"), "forbidden_header", "http-idempotency-key"),
        (good("ours").text("http-onceward-attempt", "1"), "forbidden_header", "http-onceward-attempt"),
        (good("newline").text("http-x-a", "one\r\nx-b: two"), "bad_header", "http-x-a"),
        (good("name").text("http-x a", "one"), "bad_header", "http-x a"),
        (good("body").body(vec![b'x'; 1_001]), "body_too_large", "1001 bytes"),
    ]
}
