//! The broker or the database goes away for ten seconds, under load: the process lives, recovers, loses nothing.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::support::Stop::{ByKill, Gently};
use crate::support::Which::{Broker, Database as Postgres};
use crate::support::{
    Check, Database, Gate, Load, Log, Message, Producer, Receiver, Reply, SOON, Stop, Which, Worker, World, chance,
    pick, publish_through, test_on_private_servers,
};

const OUTAGE: Duration = Duration::from_secs(10);
const ENTITIES: usize = 50;
const SEED: u64 = 7;
/// Events of each part of a run: before, during, after.
const PART: usize = 600;
/// From the receiver's answer to its record, on a busy machine.
const UNSETTLED: Duration = Duration::from_secs(1);

#[test]
fn the_broker_stops_for_ten_seconds_and_nothing_is_lost() {
    outage(&[Broker], Gently, &[Broker]);
}

#[test]
fn the_broker_crashes_and_comes_back_after_ten_seconds_and_nothing_is_lost() {
    outage(&[Broker], ByKill, &[Broker]);
}

#[test]
fn the_database_stops_for_ten_seconds_and_nothing_is_lost() {
    outage(&[Postgres], Gently, &[Postgres]);
}

#[test]
fn the_database_crashes_and_comes_back_after_ten_seconds_and_nothing_is_lost() {
    outage(&[Postgres], ByKill, &[Postgres]);
}

#[test]
fn both_servers_crash_and_the_broker_comes_back_first() {
    outage(&[Postgres, Broker], ByKill, &[Broker, Postgres]);
}

#[test]
fn both_servers_crash_and_the_database_comes_back_first() {
    outage(&[Broker, Postgres], ByKill, &[Postgres, Broker]);
}

/// At its start the broker numbers the buckets of a consistent-hash exchange anew, in any order.
#[test]
fn order_holds_though_a_restarted_broker_deals_entities_to_other_partitions() {
    test_on_private_servers(Load::Shared, async |world, servers| {
        let gate = Gate::closed();
        let behind = gate.clone();
        let receiver = Receiver::new(move |_| Reply::ok().behind(&behind)).await;
        let times = ["--attempt-timeout", "60s", "--lease", "90s", "--drain-time", "60s"];
        let many = [&["--partitions", "16", "--host-connections", "100"], &times[..]].concat();
        let (worker, other) = (Worker::start(world, &many).await, Worker::start(world, &many).await);
        let part = |from: usize| -> Vec<Message> {
            let numbers = from..from + 4 * ENTITIES;
            let names = numbers.map(|n| (format!("entity-{}", n % ENTITIES), format!("event-{n}")));
            names.map(|(entity, key)| Message::new(&entity, &key, &receiver.url())).collect()
        };
        let (first, second) = (part(0), part(4 * ENTITIES));
        Producer::connect(world).await.publish_all(&first).await;
        receiver.wait_for(SOON, "fifty open requests", |log| log.open == ENTITIES).await;
        let database = Database::connect(world).await;
        database.wait_for_recorded(SOON, 4 * 50).await;
        servers.stop(Broker, Gently).await;
        servers.start_again(Broker).await;
        Producer::connect(world).await.publish_all(&second).await;
        database.wait_for_recorded(Duration::from_mins(3), 8 * 50).await;
        gate.open();
        receiver.wait_for_delivered(Duration::from_mins(3), 8 * ENTITIES).await;
        worker.stop().await;
        other.stop().await;
        Check::new(receiver.attempts(), 5).order(&database.lines().await).nothing_resent();
        for (entity, keys) in database.lines().await {
            let number = |key: &String| key.rsplit('-').next().and_then(|number| number.parse::<u32>().ok());
            assert!(keys.is_sorted_by_key(number), "{entity}: all of its producer's events in order: {keys:?}");
        }
    });
}

fn outage(stopped: &'static [Which], how: Stop, started: &'static [Which]) {
    test_on_private_servers(Load::Shared, async |world, servers| {
        let receiver = shaky_receiver().await;
        let quick = ["--backoff-initial", "200ms", "--backoff-max", "1s", "--max-attempts", "20"];
        let worker = Worker::start(world, &quick).await;
        let (stop, stopping) = watch::channel(false);
        let producing = tokio::spawn(produce(world.amqp_url.clone(), receiver.url(), stopping));
        receiver.wait_for_delivered(Duration::from_mins(3), PART).await;

        let begun = Instant::now();
        for which in stopped {
            servers.stop(*which, how).await;
        }
        // The fault itself is a duration.
        tokio::time::sleep(OUTAGE).await;
        for which in started {
            servers.start_again(*which).await;
        }
        let ended = Instant::now();

        let so_far = receiver.log().delivered.len();
        receiver.wait_for_delivered(Duration::from_mins(3), so_far + PART).await;
        stop.send_replace(true);
        let keys = producing.await.expect("the producer");
        nothing_is_lost(world, &receiver, &worker, &keys).await;
        let check = Check::new(receiver.attempts(), 20);
        check.order(&Database::connect(world).await.lines().await);
        for attempt in check.resent() {
            let over = attempt.ended.expect("it succeeded");
            let unrecorded = stopped.contains(&Postgres) && attempt.started <= ended && over + UNSETTLED >= begun;
            assert!(unrecorded, "sent again, though it could be recorded: {attempt:#?}");
        }
    });
}

async fn nothing_is_lost(world: &World, receiver: &Receiver, worker: &Worker, keys: &[String]) {
    let database = Database::connect(world).await;
    let all = |log: &Log| keys.iter().all(|key| log.delivered.contains(key));
    let waiting = receiver.wait_for(Duration::from_mins(4), "every confirmed event", all);
    if tokio::time::timeout(Duration::from_mins(3), waiting).await.is_err() {
        let delivered = receiver.log().delivered.clone();
        let missing: Vec<_> = keys.iter().filter(|key| !delivered.contains(*key)).collect();
        let mut open = database.events().await;
        open.retain(|event| event.state != "DELIVERED");
        let (some, states) = (&missing[..missing.len().min(20)], &open[..open.len().min(5)]);
        panic!("{} of {} never arrived, such as {some:?}; open, such as {states:#?}", missing.len(), keys.len());
    }
    worker.stop().await;
    let states = database.states().await;
    let delivered = states.get("DELIVERED").copied().unwrap_or_default();
    assert_eq!(states.values().sum::<i64>(), delivered, "nothing is left open: {states:?}");
    assert!(delivered >= i64::try_from(keys.len()).expect("a small number"), "{states:?}");
}

/// Fails 2 % of the attempts, and takes up to 30 ms.
async fn shaky_receiver() -> Receiver {
    Receiver::new(|request| {
        let attempt = request.number.to_string();
        let delay = pick(SEED, &format!("{} {attempt}", request.key), 30);
        let fails = chance(SEED, &[request.key, &attempt]) < 0.02;
        Reply::status(if fails { 500 } else { 200 }).after(Duration::from_millis(delay.into()))
    })
    .await
}

/// Publishes about two hundred events a second until told to stop, through every failure, as a producer with an
/// outbox does: what was not confirmed is published again. Returns the keys of all confirmed events.
async fn produce(amqp_url: String, url: String, stopping: watch::Receiver<bool>) -> Vec<String> {
    let mut keys = Vec::new();
    let mut producer = None;
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    while !*stopping.borrow() {
        pace.tick().await;
        let number = keys.len();
        let key = format!("event-{number}");
        let message = Message::new(&format!("entity-{}", number % ENTITIES), &key, &url);
        if publish_through(&mut producer, &amqp_url, &message).await {
            keys.push(key);
        } else {
            // The broker is unreachable: there is no signal of its return but an answer.
            producer = None;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    keys
}
