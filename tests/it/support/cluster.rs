//! Several workers under a steady load, looked at from the receiver.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Attempt, Check, Database, Message, Receiver, Reply, Worker, World, chance, pick, publish_through};

/// Entities of the load; every other one numbers its events.
const ENTITIES: usize = 64;
const PARTITIONS: &str = "8";
/// Requests at a time to the receiver, over all workers.
const CAP: usize = 10;
const MAX_ATTEMPTS: u32 = 25;
/// From the receiver's answer to its record, on a busy machine.
const UNSETTLED: Duration = Duration::from_secs(1);
/// From the worker's last word on a connection to the receiver's reading it.
const UNREAD: Duration = Duration::from_millis(200);
/// A message every so often: the receiver could take about half as many again.
const PACE: Duration = Duration::from_millis(4);
const SEED: u64 = 11;

/// When something was done to a worker or a server; what was in flight then may be sent again.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub from: Instant,
    pub to: Instant,
}

/// Workers, a producer that never stops, and a receiver that fails now and then.
pub struct Cluster<'a> {
    pub world: &'a World,
    pub database: Database,
    pub receiver: Receiver,
    stop: watch::Sender<bool>,
    producing: JoinHandle<Vec<String>>,
    begun: Instant,
}

impl<'a> Cluster<'a> {
    /// A first worker, and the load.
    pub async fn start(world: &'a World) -> (Self, Worker) {
        let receiver = Receiver::new(|request| {
            let attempt = request.number.to_string();
            let fails = chance(SEED, &[request.key, &attempt]) < 0.02;
            let delay = pick(SEED, &format!("{} {attempt}", request.key), 40);
            Reply::status(if fails { 500 } else { 200 }).after(Duration::from_millis(delay.into()))
        })
        .await;
        let first = Worker::start(world, &Self::SETTINGS).await;
        let (stop, stopping) = watch::channel(false);
        let producing = tokio::spawn(produce(world.amqp_url.clone(), receiver.url(), stopping));
        let database = Database::connect(world).await;
        receiver.wait_for_delivered(Duration::from_mins(1), 3 * ENTITIES).await;
        (Self { world, database, receiver, stop, producing, begun: Instant::now() }, first)
    }

    /// For each worker.
    pub const SETTINGS: [&'static str; 10] = [
        "--partitions",
        PARTITIONS,
        "--host-connections",
        "10",
        "--backoff-initial",
        "100ms",
        "--backoff-max",
        "200ms",
        "--max-attempts",
        "25",
    ];

    /// One more worker.
    pub async fn add(&self) -> Worker {
        Worker::start(self.world, &Self::SETTINGS).await
    }

    /// Lets the load run for a while.
    pub async fn run_for(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Ends the load, waits for all of it, and looks at everything that the receiver saw. Gives the longest time that any
    /// partition was without deliveries.
    pub async fn ends_well(self, workers: &[&Worker], faults: &[Fault]) -> Duration {
        let ended = Instant::now();
        self.stop.send_replace(true);
        let keys = self.producing.await.expect("the producer");
        let all = |log: &super::Log| keys.iter().all(|key| log.delivered.contains(key));
        self.receiver.wait_for(Duration::from_mins(2), "every confirmed event", all).await;
        for worker in workers {
            worker.stop().await;
        }
        let states = self.database.states().await;
        let delivered = states.get("DELIVERED").copied().unwrap_or_default();
        assert_eq!(states.values().sum::<i64>(), delivered, "nothing is left open: {states:?}");
        let attempts = self.receiver.attempts();
        let check = Check::new(attempts.clone(), MAX_ATTEMPTS);
        check.order(&self.database.lines().await).all_delivered(&keys);
        let resent = check.resent();
        for attempt in &resent {
            assert!(was_in_flight(attempt, faults), "sent again, though nothing happened: {attempt:#?} {faults:#?}");
        }
        let most_open = self.receiver.log().most_open;
        assert!(most_open <= CAP, "{most_open} requests at a time; {CAP} are allowed");
        let longest = longest_silence(&attempts, &self.database.partitions_of_entities().await, self.begun, ended);
        println!(
            "{} events, {} sent again, at most {most_open} at a time, no partition without deliveries for more than {longest:?}",
            keys.len(),
            resent.len(),
        );
        longest
    }
}

fn was_in_flight(attempt: &Attempt, faults: &[Fault]) -> bool {
    let ended = attempt.ended.expect("it succeeded");
    faults.iter().any(|fault| attempt.started <= fault.to + UNREAD && fault.from <= ended + UNSETTLED)
}

/// The longest time between two attempts for events of one partition.
fn longest_silence(attempts: &[Attempt], partitions: &BTreeMap<String, i32>, from: Instant, to: Instant) -> Duration {
    let mut last: BTreeMap<i32, Instant> = BTreeMap::new();
    let mut longest = Duration::ZERO;
    let mut seen: Vec<_> = attempts.iter().filter(|attempt| (from..to).contains(&attempt.started)).collect();
    seen.sort_by_key(|attempt| attempt.started);
    for attempt in seen {
        let Some(partition) = partitions.get(&attempt.entity) else { continue };
        let before = last.insert(*partition, attempt.started).unwrap_or(from);
        longest = longest.max(attempt.started - before);
    }
    last.values().map(|last| to.saturating_duration_since(*last)).fold(longest, Duration::max)
}

/// Publishes at a steady pace until told to stop, through every failure: what was not confirmed is published again.
/// Returns the keys of all confirmed events.
async fn produce(amqp_url: String, url: String, stopping: watch::Receiver<bool>) -> Vec<String> {
    let mut keys = Vec::new();
    let mut producer = None;
    let mut pace = tokio::time::interval(PACE);
    while !*stopping.borrow() {
        pace.tick().await;
        let (entity, number) = (keys.len() % ENTITIES, keys.len() / ENTITIES + 1);
        let key = format!("event-{entity}-{number}");
        let message = Message::new(&format!("entity-{entity}"), &key, &url);
        let numbered = message.clone().sequence(i64::try_from(number).expect("a small number"));
        let message = if entity % 2 == 0 { message } else { numbered };
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
