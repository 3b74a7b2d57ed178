//! The worker is killed again and again, at moments that nobody chose.

use std::collections::HashSet;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::support::{
    Attempt, Check, Database, DeadLetters, Load, Message, Producer, Receiver, Reply, SOON, Worker, World, chance, pick,
    test,
};

const KILLS: u32 = 20;
const ENTITIES: usize = 120;
const EVENTS_OF_EACH: usize = 40;
/// Only what never succeeds is exhausted.
const MAX_ATTEMPTS: u32 = 25;
const SEED: u64 = 6;
/// Takeover waits for the dead worker's lease: a short one, so that the test ends soon.
const SETTINGS: [&str; 10] = [
    "--lease",
    "3s",
    "--attempt-timeout",
    "2s",
    "--backoff-initial",
    "100ms",
    "--backoff-max",
    "200ms",
    "--max-attempts",
    "25",
];
/// From the receiver's answer to its record, on a busy machine.
const UNSETTLED: Duration = Duration::from_secs(3);
/// From the worker's last word on a connection to the receiver's reading it.
const UNREAD: Duration = Duration::from_millis(200);

/// From the signal to the end of the process.
type Kill = Range<Instant>;

#[test]
fn twenty_kills_under_load_lose_nothing_and_send_twice_only_what_was_in_flight() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|request| {
            let attempt = request.number.to_string();
            let fails = is_doomed(request.key) || chance(SEED, &[request.key, &attempt]) < 0.03;
            let delay = pick(SEED, &format!("{} {attempt}", request.key), 120);
            Reply::status(if fails { 500 } else { 200 }).after(Duration::from_millis(delay.into()))
        })
        .await;
        let messages = messages(&receiver.url());
        let mut worker = Worker::start(world, &SETTINGS).await;
        let producing = produce_alongside(world, messages.clone(), &receiver);
        let killing = async {
            let mut kills = Vec::new();
            for number in 0..KILLS {
                let more = 20 + pick(SEED, &format!("attempts before kill {number}"), 150) as usize;
                let seen = receiver.log().attempts.len();
                receiver.wait_for(SOON, "more attempts", |log| log.attempts.len() >= seen + more).await;
                let signalled = Instant::now();
                worker.kill().await;
                kills.push(signalled..Instant::now());
                worker = Worker::spawn(world, &SETTINGS);
            }
            kills
        };
        let (kills, ()) = tokio::join!(killing, producing);
        ends_well(world, &receiver, &worker, &messages, &kills).await;
    });
}

async fn ends_well(world: &World, receiver: &Receiver, worker: &Worker, messages: &[Message], kills: &[Kill]) {
    let (doomed, fine): (Vec<_>, Vec<_>) = messages.iter().map(Message::name).partition(|key| is_doomed(key));
    receiver.wait_for_delivered(Duration::from_mins(5), fine.len()).await;
    let dead_letters = DeadLetters::open(world).await;
    for key in &doomed {
        let letter = dead_letters.wait_for_key(SOON, key).await;
        let body = &messages.iter().find(|message| message.name() == *key).expect("published").body;
        assert_eq!((letter.reason().as_str(), &letter.body), ("exhausted", body));
    }
    worker.stop().await;

    let database = Database::connect(world).await;
    let count = |keys: &Vec<&str>| i64::try_from(keys.len()).expect("a small number");
    let expected = [("DELIVERED".to_owned(), count(&fine)), ("FAILED".to_owned(), count(&doomed))];
    assert_eq!(database.states().await, expected.into());
    let check = Check::with_unknown(receiver.attempts(), MAX_ATTEMPTS, KILLS);
    check.order(&database.lines().await);
    let resent = check.resent();
    for attempt in &resent {
        assert!(was_in_flight(attempt, kills), "sent again, though no kill came between: {attempt:#?}, {kills:#?}");
    }
    let letters: HashSet<_> = dead_letters.taken().into_iter().filter_map(|letter| letter.key).collect();
    assert_eq!(letters.len(), doomed.len(), "only what failed for good is dead-lettered");
    println!("{} of {} events were sent twice over {KILLS} kills", resent.len(), messages.len());
}

/// One event in a hundred never succeeds.
fn is_doomed(key: &str) -> bool {
    chance(SEED, &["doomed", key]) < 0.01
}

fn was_in_flight(attempt: &Attempt, kills: &[Kill]) -> bool {
    let ended = attempt.ended.expect("it succeeded");
    kills.iter().any(|kill| attempt.started <= kill.end + UNREAD && kill.start <= ended + UNSETTLED)
}

/// Entities by turns, so that each has events in every part of the run.
fn messages(url: &str) -> Vec<Message> {
    let message = |n: usize| {
        let (entity, number) = (n % ENTITIES, n / ENTITIES + 1);
        let message = Message::new(&format!("entity-{entity}"), &format!("event-{entity}-{number}"), url);
        // Every other entity numbers its events.
        if entity % 2 == 0 { message } else { message.sequence(i64::try_from(number).expect("a small number")) }
    };
    (0..ENTITIES * EVENTS_OF_EACH).map(message).collect()
}

/// Publishes in step with the deliveries: there is always some work, and never all of it.
async fn produce_alongside(world: &World, messages: Vec<Message>, receiver: &Receiver) {
    let producer = Producer::connect(world).await;
    for (round, some) in messages.chunks(ENTITIES).enumerate() {
        let enough = (round * ENTITIES).saturating_sub(5 * ENTITIES);
        receiver.wait_for(Duration::from_mins(1), "deliveries", |log| log.delivered.len() >= enough).await;
        producer.publish_all(some).await;
    }
}
