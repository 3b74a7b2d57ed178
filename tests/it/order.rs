//! In order: no attempt for an event before the one in front of it is final.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, ExchangeKind};
use tokio::sync::watch;

use crate::support::{
    Check, Database, Load, Message, Producer, Receiver, Reply, SOON, Worker, chance, pick, publish_from, shuffle, test,
};

const ENTITIES: usize = 200;
const EVENTS_OF_EACH: usize = 50;
const CONNECTIONS: usize = 10;
const SEED: u64 = 20;
/// Short waits for retries, so that the test ends soon; order is the same.
const QUICK_RETRIES: [&str; 4] = ["--backoff-initial", "100ms", "--backoff-max", "400ms"];

#[test]
fn two_hundred_entities_arrive_in_the_order_in_which_they_were_recorded() {
    test(Load::Shared, async |world| {
        let receiver = shaky_receiver().await;
        let messages = shuffled(|entity, number| {
            Message::new(&format!("entity-{entity}"), &format!("event-{entity}-{number}"), &receiver.url())
        });
        let worker = Worker::start(world, &QUICK_RETRIES).await;
        publish_from(world, CONNECTIONS, &messages).await;
        receiver.wait_for_delivered(Duration::from_mins(5), messages.len()).await;
        worker.stop().await;
        let lines = Database::connect(world).await.lines().await;
        arrived(&receiver, &messages, &lines);
    });
}

#[test]
fn two_hundred_entities_arrive_in_the_order_of_their_numbers() {
    test(Load::Shared, async |world| {
        let receiver = shaky_receiver().await;
        let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for entity in 0..ENTITIES {
            let keys = (0..EVENTS_OF_EACH).map(|number| format!("event-{entity}-{number}"));
            lines.insert(format!("entity-{entity}"), keys.collect());
        }
        let messages = shuffled(|entity, number| {
            Message::new(&format!("entity-{entity}"), &format!("event-{entity}-{number}"), &receiver.url())
                .sequence(i64::try_from(number).expect("a small number") + 1)
        });
        let worker = Worker::start(world, &QUICK_RETRIES).await;
        publish_from(world, CONNECTIONS, &messages).await;
        receiver.wait_for_delivered(Duration::from_mins(5), messages.len()).await;
        worker.stop().await;
        let numbered = |attempt: &crate::support::Attempt| {
            let number = attempt.key.rsplit('-').next().and_then(|number| number.parse::<i64>().ok());
            attempt.sequence == number.map(|number| number + 1)
        };
        assert!(receiver.attempts().iter().all(numbered), "the receiver is told the producer's numbers");
        arrived(&receiver, &messages, &lines);
    });
}

#[test]
fn the_events_of_one_producer_arrive_in_the_order_in_which_it_published_them() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &[]).await;
        let keys: Vec<_> = (0..300).map(|number| format!("event-{number}")).collect();
        let messages: Vec<_> = keys.iter().map(|key| Message::new("one-user", key, &receiver.url())).collect();
        Producer::connect(world).await.publish_all(&messages).await;
        // Six hundred commits, one after the other, beside whatever else the disk has to write.
        receiver.wait_for_delivered(Duration::from_mins(1), keys.len()).await;
        worker.stop().await;
        let came: Vec<_> = receiver.attempts().into_iter().map(|attempt| attempt.key).collect();
        assert_eq!(came, keys);
    });
}

/// Publishes one event after the other until it is told to stop; what nothing is bound for yet is returned, and is another
/// event's turn. The keys that the broker has confirmed.
async fn publish_meanwhile(producer: Producer, line: usize, url: String, stop: watch::Receiver<bool>) -> Vec<String> {
    let mut keys = Vec::new();
    for number in 0.. {
        if *stop.borrow() {
            break;
        }
        let key = format!("event-{line}-{number}");
        let message = Message::new(&format!("entity-{line}-{}", number % 5), &key, &url);
        if producer.try_publish(&message).await {
            keys.push(key);
        }
    }
    keys
}

/// The exchange is there already: some clients declare what they publish to.
#[test]
fn what_comes_before_the_first_worker_is_ready_is_routed_as_what_follows() {
    test(Load::Shared, async |world| {
        let connection = Connection::connect(&world.amqp_url, ConnectionProperties::default()).await;
        let channel = connection.expect("the broker answers").create_channel().await.expect("a channel");
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let kind = ExchangeKind::Custom("x-consistent-hash".into());
        let declared = channel.exchange_declare("events".into(), kind, durable, FieldTable::default()).await;
        declared.expect("no worker was here before");

        let (receiver, stop) = (Receiver::healthy().await, watch::Sender::new(false));
        let mut producing = Vec::new();
        for line in 0..6 {
            let producer = Producer::connect(world).await;
            producing.push(tokio::spawn(publish_meanwhile(producer, line, receiver.url(), stop.subscribe())));
        }
        let worker = Worker::start(world, &["--partitions=32"]).await;
        receiver.wait_for(SOON, "the first events", |log| log.delivered.len() >= 300).await;
        stop.send_replace(true);
        let mut published = BTreeSet::new();
        for producing in producing {
            published.extend(producing.await.expect("a producer"));
        }
        receiver.wait_for_delivered(SOON, published.len()).await;
        worker.stop().await;
        let came: BTreeSet<_> = receiver.attempts().into_iter().map(|attempt| attempt.key).collect();
        assert_eq!(came, published);
        let partitions = Database::connect(world).await.partitions_of_entities().await;
        assert_eq!(partitions.len(), 30, "every entity has one partition: {partitions:?}");
        assert!(partitions.into_values().collect::<BTreeSet<_>>().len() > 8, "of many");
    });
}

#[test]
fn order_holds_across_hosts_too() {
    test(Load::Shared, async |world| {
        let slow = Receiver::new(|_| Reply::ok().after(Duration::from_millis(40))).await;
        let quick = Receiver::healthy().await;
        let worker = Worker::start(world, &[]).await;
        let urls = [slow.url(), quick.url()];
        let message = |number: usize| {
            Message::new(&format!("entity-{}", number % 10), &format!("event-{number}"), &urls[number / 10 % 2])
        };
        let messages: Vec<_> = (0..400).map(message).collect();
        Producer::connect(world).await.publish_all(&messages).await;
        slow.wait_for_delivered(SOON, 200).await;
        quick.wait_for_delivered(SOON, 200).await;
        worker.stop().await;
        let attempts = [slow.attempts(), quick.attempts()].concat();
        let lines = Database::connect(world).await.lines().await;
        Check::new(attempts, 5).order(&lines).nothing_resent();
    });
}

/// Fails 5 % of the attempts, but none of them for good, and takes up to 20 ms.
async fn shaky_receiver() -> Receiver {
    Receiver::new(|request| {
        let attempt = request.number.to_string();
        let fails = request.number < 5 && chance(SEED, &[request.key, &attempt]) < 0.05;
        let delay = pick(SEED, &format!("{} {attempt}", request.key), 20);
        Reply::status(if fails { 500 } else { 200 }).after(Duration::from_millis(delay.into()))
    })
    .await
}

fn shuffled(message: impl Fn(usize, usize) -> Message) -> Vec<Message> {
    let one_entity = |entity| (0..EVENTS_OF_EACH).map(move |number| (entity, number));
    let mut places: Vec<_> = (0..ENTITIES).flat_map(one_entity).collect();
    shuffle(SEED, &mut places);
    places.into_iter().map(|(entity, number)| message(entity, number)).collect()
}

fn arrived(receiver: &Receiver, messages: &[Message], lines: &BTreeMap<String, Vec<String>>) {
    assert_eq!(lines.values().map(Vec::len).sum::<usize>(), messages.len(), "every event has its place");
    let attempts = receiver.attempts();
    let failed = attempts.iter().filter(|attempt| !attempt.succeeded()).count();
    assert!(failed > messages.len() / 40, "the receiver was to fail about 5 % of the attempts, not {failed}");
    Check::new(attempts, 5)
        .order(lines)
        .nothing_resent()
        .numbers_without_holes()
        .all_delivered(lines.values().flatten());
}
