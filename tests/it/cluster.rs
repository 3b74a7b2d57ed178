//! A RabbitMQ of three nodes: one dies, then another is cut off, under load.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::Which::{Broker, SecondNode};
use crate::support::{
    Attempt, Cluster, Load, Receiver, SOON, Servers, Stop, Which, Worker, World, asking, run_to_end, test,
    test_on_a_cluster,
};

/// What the load lives on with between two faults, and with one node less.
const GO_ON: usize = 200;
const LONG: Duration = Duration::from_mins(1);
/// A retry may wait for a jittered delay.
const LONGEST_BACKOFF: Duration = Duration::from_millis(220);
/// A retry whose token was lost is found by a sweep, 2 to 3 s late. A machine that is busy gets as much again.
const FOUND: Duration = Duration::from_secs(6);

#[test]
fn one_node_dies_and_then_another_is_cut_off_and_nothing_is_lost_or_sent_twice() {
    test_on_a_cluster(Load::Alone, async |world, servers| {
        let (cluster, first) = Cluster::start(world).await;
        let second = Worker::start(world, &[&Cluster::SETTINGS[..], &["--amqp-url", &turned(world)]].concat()).await;
        let receiver = cluster.receiver.clone();
        is_spread(world).await;
        // The nodes that the workers began with. `deploy/verify cluster` takes all three in turn, and takes longer.
        die(servers, Broker, &receiver).await;
        cut_off(servers, SecondNode, &receiver).await;
        let silence = cluster.ends_well(&[&first, &second], &[]).await;
        let late = latest_retry(&receiver.attempts());
        println!("a retry was {late:?} late at most");
        assert!(late < FOUND, "a retry came {late:?} late");
        assert!(silence < LONG, "a partition was without deliveries for {silence:?}");
    });
}

async fn die(servers: &Servers, node: Which, receiver: &Receiver) {
    servers.stop(node, Stop::ByKill).await;
    goes_on(receiver).await;
    servers.start_again(node).await;
    servers.until_whole().await;
}

/// One node, and the other two: all of them live on, and only the two can write.
async fn cut_off(servers: &Servers, node: Which, receiver: &Receiver) {
    servers.cut_off(node).await;
    goes_on(receiver).await;
    servers.rejoin(node).await;
    servers.until_whole().await;
    goes_on(receiver).await;
}

/// Events that are published from now on get through.
async fn goes_on(receiver: &Receiver) {
    let delivered = receiver.log().delivered.len();
    let begun = Instant::now();
    receiver.wait_for_delivered(LONG, delivered + GO_ON).await;
    println!("{GO_ON} more deliveries took {:?}", begun.elapsed());
}

/// The nodes' URLs, beginning with the second.
fn turned(world: &World) -> String {
    let mut urls: Vec<_> = world.amqp_url.split(',').collect();
    urls.rotate_left(1);
    urls.join(",")
}

/// Every queue is on three nodes, and each node leads some. A queue tells about itself every five seconds.
async fn is_spread(world: &World) {
    let path = format!("api/queues/{}?columns=name,members,leader", world.name);
    let queues = asking(LONG, "the queues' members", async || {
        let queues = world.ask(&path).await.as_array().expect("a list").clone();
        let all_tell = queues.iter().all(|queue| queue["leader"].is_string() && queue["members"].is_array());
        all_tell.then_some(queues)
    })
    .await;
    let mut leaders: BTreeMap<&str, usize> = BTreeMap::new();
    for queue in &queues {
        assert_eq!(queue["members"].as_array().map(Vec::len), Some(3), "{queue}");
        *leaders.entry(queue["leader"].as_str().unwrap_or_default()).or_default() += 1;
    }
    println!("queues led: {leaders:?}");
    assert_eq!(leaders.len(), 3, "{leaders:?}");
}

/// How late a retry was at most, however the ladder's queues fared.
fn latest_retry(attempts: &[Attempt]) -> Duration {
    let mut by_key: BTreeMap<&str, Vec<&Attempt>> = BTreeMap::new();
    for attempt in attempts {
        by_key.entry(&attempt.key).or_default().push(attempt);
    }
    let pairs = by_key.values().flat_map(|attempts| attempts.windows(2)).filter(|pair| !pair[0].succeeded());
    let waits = pairs.filter_map(|pair| Some(pair[1].started - pair[0].ended?));
    waits.max().expect("some attempts fail").saturating_sub(LONGEST_BACKOFF)
}

#[test]
fn a_node_that_refuses_or_hangs_is_passed_over_by_every_command() {
    test(Load::Shared, async |world| {
        // It accepts connections, and says nothing.
        let hangs = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let port = hangs.local_addr().expect("a bound port").port();
        let vhost = &world.name;
        let urls = format!("amqp://127.0.0.1:1/{vhost},amqp://127.0.0.1:{port}/{vhost},{}", world.amqp_url);
        let worker = Worker::spawn(world, &["--amqp-url", &urls]);
        worker.wait_for_line(SOON * 2, "ready: consuming").await;
        let receiver = Receiver::healthy().await;
        let event = ["publish", "--entity=user", "--key=one", "--body=x", "--destination", &receiver.url()];
        let (code, text) = run_to_end(world, &[&event[..], &["--amqp-url", &urls]].concat()).await;
        assert_eq!(code, 0, "{text}");
        receiver.wait_for_key(SOON, "one").await;
        let (code, text) = run_to_end(world, &["redrive", "--amqp-url", &urls, "nothing"]).await;
        assert!(code != 0 && text.contains("no such event"), "{text}");
        worker.stop().await;
    });
}

#[test]
fn a_broker_of_which_no_node_answers_is_named_without_its_passwords() {
    test(Load::Shared, async |world| {
        let urls = "amqp://u:hidden@127.0.0.1:1,amqp://u:hidden@127.0.0.1:2";
        let event = ["publish", "--entity=user", "--body=x", "--destination=http://127.0.0.1:9/", "--amqp-url", urls];
        let (code, text) = run_to_end(world, &event).await;
        assert_ne!(code, 0);
        let named = text.contains("amqp://u:***@127.0.0.1:1,amqp://u:***@127.0.0.1:2") && text.contains("refused");
        assert!(named && !text.contains("hidden"), "{text}");
    });
}
