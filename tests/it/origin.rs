//! Entities and numbers that stand elsewhere than in the routing key and in `sequence`, and `CloudEvents`, which have names of
//! their own for them.

use lapin::types::AMQPValue;
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};

use crate::support::{
    DeadLetters, Load, Message, Producer, Receiver, Reply, SOON, SettingsFile, Worker, asking, publish_from,
    run_to_end, test,
};

const BY_ACCOUNT: &str = "--entity-from=header:account";

/// The keys that came to a receiver for an entity, in their order.
fn keys_of(receiver: &Receiver, entity: &str) -> Vec<String> {
    let attempts = receiver.attempts();
    let of_entity = attempts.iter().filter(|attempt| attempt.header("onceward-entity") == Some(entity));
    of_entity.map(|attempt| attempt.header("idempotency-key").expect("a key").to_owned()).collect()
}

#[test]
fn entities_of_a_header_are_in_order_whatever_their_routing_keys() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let workers = [Worker::start(world, &[BY_ACCOUNT]).await, Worker::start(world, &[BY_ACCOUNT]).await];
        let message = |number: usize| {
            let (account, topic) = (number % 20, ["orders.created", "orders.paid", "refunds"][number / 7 % 3]);
            Message::new(topic, &format!("{account}/{number:03}"), &receiver.url())
                .text("account", &account.to_string())
        };
        let messages: Vec<Message> = (0..400).map(message).collect();
        publish_from(world, 1, &messages).await;
        receiver.wait_for_delivered(SOON, 400).await;
        for account in 0..20 {
            let keys = keys_of(&receiver, &account.to_string());
            assert!(keys.len() == 20 && keys.is_sorted(), "account {account}: {keys:?}");
        }
        for worker in workers {
            worker.stop().await;
        }
    });
}

#[test]
fn a_dead_letter_has_the_routing_key_that_its_message_had_and_can_be_sent_back() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|_| Reply::status(500)).await;
        let worker = Worker::start(world, &[BY_ACCOUNT, "--max-attempts=1"]).await;
        let (producer, letters) = (Producer::connect(world).await, DeadLetters::open(world).await);
        let good = Message::new("orders.created", "order-1", &receiver.url()).text("account", "a-7");
        let number = Message::new("orders.paid", "number", &receiver.url()).header("account", AMQPValue::LongInt(7));
        let cases = [
            (good.clone(), "exhausted", ""),
            (Message::new("orders.paid", "none", &receiver.url()), "missing_entity", "`account`"),
            (number, "wrong_header_type", "must be text"),
            (Message { body: b"other".to_vec(), ..good.clone() }, "key_conflict", ""),
        ];
        for (count, (message, reason, words)) in (1..).zip(cases) {
            producer.publish(&message).await;
            let letter = letters.wait_for(SOON, count).await.pop().expect("it came");
            assert_eq!((letter.reason().as_str(), &letter.entity), (reason, &message.entity));
            assert!(letter.detail().contains(words), "{}", letter.detail());
        }
        receiver.behave(|_| Reply::ok());
        let sent_back = letters.taken().remove(0);
        producer.publish(&Message { headers: sent_back.headers, ..good }).await;
        receiver.wait_for_delivered(SOON, 1).await;
        assert_eq!(keys_of(&receiver, "a-7"), ["order-1", "order-1"]);
        worker.stop().await;
    });
}

#[test]
fn where_the_entity_stands_is_fixed_with_the_exchange() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &[BY_ACCOUNT]).await;
        let (code, text) = run_to_end(world, &["worker"]).await;
        assert_ne!(code, 0);
        assert!(text.contains("start with --entity-from header:account"), "{text}");
        worker.stop().await;
        let table = [
            ("--entity-from=account", "write routing-key or header:NAME"),
            ("--entity-from=header:sequence", "means something else"),
            ("--sequence-from=x", "write header:NAME"),
        ];
        for (flag, words) in table {
            let (code, text) = run_to_end(world, &["worker", flag]).await;
            assert_eq!(code, 2, "{text}");
            assert!(text.contains(words), "{text}");
        }
        let both = ["worker", BY_ACCOUNT, "--exchange-type=x-modulus-hash"];
        let (_, text) = run_to_end(world, &both).await;
        assert!(text.contains("leave out --entity-from"), "{text}");
    });
}

/// The exchange of workers of another database says what it hashes, and how many partitions it has.
#[test]
fn an_exchange_that_routes_otherwise_is_not_taken_over_with_a_new_database() {
    test(Load::Shared, async |world| {
        Worker::start(world, &[BY_ACCOUNT]).await.stop().await;
        let mut database = PgConnection::connect(&world.database_url).await.expect("the database answers");
        for (flags, current) in [
            (&["worker"][..], "events.partition.4.header:account"),
            (&["worker", "--entity-from=header:Account"], "events.partition.4.header:account"),
            (&["worker", BY_ACCOUNT, "--partitions=8"], "events.partition.4.header:account"),
        ] {
            database.execute("delete from cluster").await.expect("as in a new one");
            let (code, text) = run_to_end(world, flags).await;
            assert!(code != 0 && text.contains("set up with another --partitions or --entity-from"), "{text}");
            assert!(text.contains(current), "{text}");
        }
        database.execute("delete from cluster").await.expect("as in a new one");
        Worker::start(world, &[BY_ACCOUNT]).await.stop().await;
    });
}

#[test]
fn workers_that_run_have_their_numbers_from_the_same_place() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &[]).await;
        let other = ["worker", "--sequence-from=header:version"];
        let (code, text) = run_to_end(world, &other).await;
        assert!(code == 2 && text.contains("start with --sequence-from header:sequence"), "{text}");
        worker.stop().await;
        let worker = Worker::start(world, &other[1..]).await;
        worker.wait_for_line(SOON, "--sequence-from was header:sequence, and is header:version from now on").await;
        Worker::start(world, &other[1..]).await.stop().await;
        worker.kill().await;
        let mut database = PgConnection::connect(&world.database_url).await.expect("the database answers");
        asking(SOON, "the end of its lease", async || {
            let over = sqlx::query_scalar("select bool_and(expires_at < clock_timestamp()) from member");
            over.fetch_one(&mut database).await.ok().filter(|over: &bool| *over)
        })
        .await;
        let worker = Worker::start(world, &[]).await;
        worker.wait_for_line(SOON, "--sequence-from was header:version, and is header:sequence from now on").await;
        worker.stop().await;
    });
}

#[test]
fn publish_puts_entity_and_number_where_the_workers_look() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let from = [BY_ACCOUNT, "--sequence-from=header:version"];
        let worker = Worker::start(world, &from).await;
        for number in ["2", "1"] {
            let (url, body) = (receiver.url(), format!("--body={number}"));
            let event = ["--entity=a-7", "--key", number, "--sequence", number, "--destination", &url, &body];
            let (code, text) = run_to_end(world, &[&["publish"][..], &from, &event].concat()).await;
            assert_eq!(code, 0, "{text}");
        }
        receiver.wait_for_delivered(SOON, 2).await;
        assert_eq!(keys_of(&receiver, "a-7"), ["1", "2"]);
        worker.stop().await;
    });
}

/// In binary mode, as the AMQP binding has it, without a `message_id`.
fn cloud_event(number: i64, destination: &str) -> Message {
    let message = Message::new("order.created", "", destination)
        .text("cloudEvents:specversion", "1.0")
        .text("cloudEvents:id", &format!("id {number}"))
        .text("cloudEvents:source", "/shop")
        .text("cloudEvents:type", "order.created")
        .text("cloudEvents:partitionkey", "order-7")
        .text("cloudEvents:sequence", &number.to_string())
        .header("cloudEvents:time", AMQPValue::Timestamp(1_700_000_000))
        .body(format!("{{\"n\":{number}.0}}"));
    Message { key: None, ..message }
}

#[test]
fn cloud_events_come_in_by_their_own_names_and_go_out_in_the_mode_of_their_destination() {
    test(Load::Shared, async |world| {
        let (binary, structured) = (Receiver::healthy().await, Receiver::at("127.0.0.2", |_| Reply::ok()).await);
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let text = format!(
            "[names.whole]\nurl = \"{}\"\ncloudevents = \"structured\"\nsecrets = [\"{secret}\"]\n",
            structured.url()
        );
        let file = SettingsFile::new(world, &text);
        let from = ["--entity-from=header:cloudEvents:partitionkey", "--sequence-from=header:cloudEvents:sequence"];
        let worker = Worker::start(world, &[&from[..], &["--destinations", file.path()]].concat()).await;
        let (producer, letters) = (Producer::connect(world).await, DeadLetters::open(world).await);
        // The second one waits for the first.
        producer.publish(&cloud_event(2, &binary.url())).await;
        producer.publish(&cloud_event(1, "whole")).await;
        binary.wait_for_delivered(SOON, 1).await;
        let (first, second) = (structured.attempts().remove(0), binary.attempts().remove(0));
        let expected = [
            ("ce-specversion", "1.0"),
            ("ce-id", "id%202"),
            ("ce-source", "/shop"),
            ("ce-type", "order.created"),
            ("ce-time", "2023-11-14T22:13:20Z"),
            ("ce-partitionkey", "order-7"),
            ("ce-sequence", "2"),
            ("content-type", "application/json"),
            ("idempotency-key", "/shop|id%202"),
            ("onceward-entity", "order-7"),
            ("onceward-sequence", "2"),
        ];
        for (name, value) in expected {
            assert_eq!(second.header(name), Some(value), "{name}");
        }
        assert_eq!(second.body, "{\"n\":2.0}");
        let whole: Value = serde_json::from_slice(&first.body).expect("JSON");
        let members = [
            ("specversion", "1.0"),
            ("id", "id 1"),
            ("source", "/shop"),
            ("type", "order.created"),
            ("time", "2023-11-14T22:13:20Z"),
            ("partitionkey", "order-7"),
            ("sequence", "1"),
            ("datacontenttype", "application/json"),
        ];
        for (name, value) in members {
            assert_eq!(whole[name], value, "{whole}");
        }
        assert_eq!(first.header("content-type"), Some("application/cloudevents+json; charset=utf-8"));
        assert!(String::from_utf8_lossy(&first.body).contains("\"data\":{\"n\":1.0}"), "{:?}", first.body);
        assert!(first.header("ce-id").is_none() && first.header("webhook-signature").is_some());
        let mut bad = cloud_event(3, &binary.url());
        bad.headers.insert("cloudEvents:specversion".into(), AMQPValue::LongString("0.3".into()));
        producer.publish(&bad).await;
        assert_eq!(letters.wait_for(SOON, 1).await.remove(0).reason(), "bad_cloud_event");
        worker.stop().await;
    });
}
