//! Bounded: memory does not grow with the backlog.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::{Database, Load, Message, Producer, Receiver, Worker, World, test};

const WAITING: usize = 200_000;
/// Connections that publish the backlog.
const PRODUCERS: usize = 4;
/// Together the bodies are as large as the limit: a worker that kept them in memory would pass it by these alone.
const BODY_BYTES: usize = 1_600;
const LIMIT_KIB: u64 = 300 * 1_024;
const DEAD_HOSTS: usize = 20;
const HANGING_HOSTS: usize = 5;
const ENTITIES: usize = 5_000;
/// Healthy events of one measurement.
const HEALTHY: usize = 3_000;

#[test]
fn two_hundred_thousand_waiting_events_cost_little_memory_and_hold_up_no_healthy_host() {
    test(Load::Alone, async |world| {
        let worker = Worker::start(world, &["--max-attempts", "1000"]).await;
        let receiver = Receiver::healthy().await;
        // The first measurement warms up connections and caches; it counts for nothing else.
        healthy_per_second(world, &receiver, "warm").await;
        let before = healthy_per_second(world, &receiver, "before").await;
        let at_rest = worker.memory_kib("VmHWM");

        let hanging: Vec<_> = (0..HANGING_HOSTS).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let urls: Vec<_> =
            hanging.iter().map(|host| format!("http://{}/", host.local_addr().expect("bound"))).collect();
        let begun = Instant::now();
        publish_waiting(world, &urls).await;
        println!("published after {:?}", begun.elapsed());
        let recorded = i64::try_from(WAITING + 2 * HEALTHY).expect("a small number");
        Database::connect(world).await.wait_for_recorded(Duration::from_mins(3), recorded).await;
        println!("recorded after {:?}", begun.elapsed());
        let during = healthy_per_second(world, &receiver, "during").await;
        let again = healthy_per_second(world, &receiver, "again").await;
        let grown = worker.memory_kib("VmHWM") - at_rest;
        worker.stop().await;

        println!("healthy events a second: {before:.0} before, {during:.0} and {again:.0} during");
        println!("memory: {at_rest} KiB at rest, {grown} KiB more at most");
        assert!(grown < LIMIT_KIB, "{WAITING} waiting events cost {grown} KiB");
        // Full speed, but for the processor time that the retries of thousands of heads of lines take: the test's
        // two cores also run the broker, the database, the producer and the receiver, all of them busy.
        let best = during.max(again);
        assert!(best > before / 2.0, "healthy events went at {best:.0} a second, not {before:.0}");
        let states = Database::connect(world).await.states().await;
        assert_eq!(states.get("DELIVERED").copied(), i64::try_from(4 * HEALTHY).ok(), "{states:?}");
        assert_eq!(states.values().sum::<i64>(), i64::try_from(WAITING + 4 * HEALTHY).expect("small"), "{states:?}");
    });
}

/// Half wait behind hosts that refuse, a quarter behind hosts that hang, a quarter behind gaps.
async fn publish_waiting(world: &World, hanging: &[String]) {
    let producers = (0..PRODUCERS).map(async |producer| {
        let connection = Producer::connect(world).await;
        let mut number = producer;
        while number < WAITING {
            let numbers = (0..1_000).map(|step| number + step * PRODUCERS).take_while(|number| *number < WAITING);
            let messages: Vec<_> = numbers.map(|number| waiting(number, hanging)).collect();
            connection.publish_all(&messages).await;
            number += 1_000 * PRODUCERS;
        }
    });
    futures_util::future::join_all(producers).await;
}

fn waiting(number: usize, hanging: &[String]) -> Message {
    let (entity, place) = (number % ENTITIES, number / ENTITIES);
    let name = format!("waiting-{entity}");
    let key = format!("waiting-{entity}-{place}");
    let refusing = format!("http://127.0.1.{}:1/", entity / 4 % DEAD_HOSTS);
    let message = match entity % 4 {
        0 | 1 => Message::new(&name, &key, &refusing),
        2 => Message::new(&name, &key, &hanging[entity / 4 % hanging.len()]),
        // The first number never comes.
        _ => Message::new(&name, &key, &refusing).sequence(2 + i64::try_from(place).expect("a small number")),
    };
    message.body(vec![b'x'; BODY_BYTES])
}

async fn healthy_per_second(world: &World, receiver: &Receiver, round: &str) -> f64 {
    let producer = Producer::connect(world).await;
    let message = |n| Message::new(&format!("{round}-{}", n % 500), &format!("{round}-event-{n}"), &receiver.url());
    let messages: Vec<_> = (0..HEALTHY).map(message).collect();
    let before = receiver.log().delivered.len();
    let begun = Instant::now();
    producer.publish_all(&messages).await;
    receiver.wait_for_delivered(Duration::from_mins(2), before + HEALTHY).await;
    f64::from(u32::try_from(HEALTHY).expect("a small number")) / begun.elapsed().as_secs_f64()
}
