//! Replicas: one more, one less, one killed, one paused, one cut off, and nothing shows but a moment's silence.

use std::time::{Duration, Instant};

use onceward::commands::verify::link::Link;

use crate::support::Which::Broker;
use crate::support::{
    Cluster, Database, Fault, Load, Message, Producer, Receiver, Reply, SOON, Stop, Worker, World, pick, run_to_end,
    test, test_on_private_servers,
};

/// As the harness starts its workers.
const LEASE: Duration = Duration::from_secs(3);
/// A promise is 1 s for a handover in peace, and the lease and 2 s after a crash. A machine that is busy gets as much again.
const IN_PEACE: Duration = Duration::from_secs(2);
const AFTER_A_CRASH: Duration = Duration::from_secs(7);
/// Replicas have to share evenly within 2 s of a coming or going.
const EVEN: Duration = Duration::from_secs(4);
const SEED: u64 = 12;

#[test]
fn from_one_replica_to_four_and_back_under_load_only_what_must_move_moves_and_nothing_is_sent_twice() {
    test(Load::Alone, async |world| {
        let (cluster, first) = Cluster::start(world).await;
        let mut more = Vec::new();
        for replicas in 2..=4 {
            more.push(cluster.add().await);
            cluster.database.wait_for_even_shares(EVEN, replicas).await;
            cluster.run_for(Duration::from_secs(1)).await;
        }
        // 8 to begin with, then 4, 2 and 2 for those that came.
        assert_eq!(cluster.database.changes_of_owner().await, 16);
        for (left, worker) in (1..=3).rev().zip(&more) {
            worker.stop().await;
            cluster.database.wait_for_even_shares(EVEN, left).await;
            cluster.run_for(Duration::from_secs(1)).await;
        }
        let silence = cluster.ends_well(&[&first], &[]).await;
        assert!(silence < IN_PEACE, "a partition was without deliveries for {silence:?}");
    });
}

#[test]
fn one_of_three_is_killed_ten_times_and_only_what_was_in_flight_is_sent_again() {
    test(Load::Alone, async |world| {
        let (cluster, first) = Cluster::start(world).await;
        let mut workers = [first, cluster.add().await, cluster.add().await];
        let mut faults = Vec::new();
        for number in 0..10 {
            cluster.run_for(Duration::from_millis(pick(SEED, &format!("pause {number}"), 2_500).into())).await;
            let victim = pick(SEED, &format!("victim {number}"), 3) as usize;
            let from = Instant::now();
            workers[victim].kill().await;
            faults.push(Fault { from, to: Instant::now() });
            workers[victim] = cluster.add().await;
        }
        cluster.database.wait_for_even_shares(LEASE + EVEN, 3).await;
        let silence = cluster.ends_well(&workers.iter().collect::<Vec<_>>(), &faults).await;
        // Whoever takes a dead one's partitions may be the next victim.
        assert!(silence < 2 * AFTER_A_CRASH, "a partition was without deliveries for {silence:?}");
    });
}

#[test]
fn one_that_is_paused_for_longer_than_its_lease_writes_and_sends_nothing_when_it_goes_on() {
    test(Load::Alone, async |world| {
        let (cluster, first) = Cluster::start(world).await;
        let (second, third) = (cluster.add().await, cluster.add().await);
        cluster.database.wait_for_even_shares(EVEN, 3).await;
        let mut faults = Vec::new();
        for _ in 0..3 {
            let from = Instant::now();
            second.signal("STOP");
            faults.push(Fault { from, to: Instant::now() });
            cluster.database.wait_for_even_shares(LEASE * 2 + EVEN, 2).await;
            cluster.run_for(LEASE).await;
            second.signal("CONT");
            cluster.database.wait_for_even_shares(EVEN, 3).await;
            cluster.run_for(Duration::from_secs(1)).await;
        }
        let silence = cluster.ends_well(&[&first, &second, &third], &faults).await;
        assert!(silence < AFTER_A_CRASH, "a partition was without deliveries for {silence:?}");
    });
}

#[test]
fn a_rolling_restart_of_three_sends_nothing_twice() {
    test(Load::Alone, async |world| {
        let (cluster, first) = Cluster::start(world).await;
        let mut workers = vec![first, cluster.add().await, cluster.add().await];
        for worker in &mut workers {
            worker.stop().await;
            *worker = cluster.add().await;
            cluster.database.wait_for_even_shares(EVEN, 3).await;
        }
        let silence = cluster.ends_well(&workers.iter().collect::<Vec<_>>(), &[]).await;
        assert!(silence < IN_PEACE, "a partition was without deliveries for {silence:?}");
    });
}

#[test]
fn one_that_is_cut_off_from_the_database_loses_its_partitions_and_comes_back() {
    test(Load::Alone, async |world| {
        let (cluster, first) = Cluster::start(world).await;
        let link = Link::to(&world.database_url).await.expect("a link");
        let through = link.through(&world.database_url).expect("a URL");
        let cut_off = Worker::start(world, &[&Cluster::SETTINGS[..], &["--database-url", &through]].concat()).await;
        let third = cluster.add().await;
        cluster.database.wait_for_even_shares(EVEN, 3).await;
        let from = Instant::now();
        link.cut();
        cluster.database.wait_for_even_shares(LEASE * 2 + EVEN, 2).await;
        let fault = Fault { from, to: Instant::now() };
        // It still reaches the broker: the others must not wait for it until it reaches the database, too.
        cluster.run_for(LEASE * 5).await;
        link.heal();
        cluster.database.wait_for_even_shares(LEASE + EVEN, 3).await;
        cluster.run_for(Duration::from_secs(1)).await;
        let silence = cluster.ends_well(&[&first, &cut_off, &third], &[fault]).await;
        assert!(silence < AFTER_A_CRASH, "a partition was without deliveries for {silence:?}");
    });
}

#[test]
fn the_broker_restarts_under_three_replicas() {
    test_on_private_servers(Load::Alone, async |world, servers| {
        let (cluster, first) = Cluster::start(world).await;
        let (second, third) = (cluster.add().await, cluster.add().await);
        for how in [Stop::Gently, Stop::ByKill] {
            servers.stop(Broker, how).await;
            servers.start_again(Broker).await;
            let delivered = cluster.receiver.log().delivered.len();
            cluster.receiver.wait_for_delivered(Duration::from_mins(2), delivered + 1_000).await;
        }
        assert_eq!(cluster.database.owners().await.len(), 3, "no partition has moved");
        cluster.ends_well(&[&first, &second, &third], &[]).await;
    });
}

#[test]
fn the_cap_on_a_host_is_one_for_all_replicas() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|_| Reply::ok().after(Duration::from_millis(50))).await;
        let settings = ["--partitions", "8"];
        let first = Worker::start(world, &settings).await;
        let message = |n| Message::new(&format!("user-{n}"), &format!("event-{n}"), &receiver.url());
        Producer::connect(world).await.publish_all(&(0..4_000).map(message).collect::<Vec<_>>()).await;
        receiver.wait_for(SOON, "fifty open requests", |log| log.open == 50).await;
        let second = Worker::start(world, &settings).await;
        let third = Worker::start(world, &settings).await;
        receiver.wait_for_delivered(Duration::from_mins(1), 4_000).await;
        for worker in [first, second, third] {
            worker.stop().await;
        }
        assert_eq!(receiver.log().most_open, 50);
        assert_eq!(receiver.attempts().len(), 4_000, "nothing was sent twice");
    });
}

/// A worker that stands by, once it has said so.
async fn spare(world: &World, arguments: &[&str]) -> Worker {
    let worker = Worker::spawn(world, arguments);
    worker.wait_for_line(SOON, "standing by").await;
    worker
}

#[test]
fn a_replica_without_a_partition_stands_by_and_takes_over() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let one = ["--partitions", "1", "--name"];
        let first = Worker::start(world, &[&one[..], &["first"]].concat()).await;
        let second = spare(world, &[&one[..], &["second"]].concat()).await;
        let (code, text) = run_to_end(world, &["status"]).await;
        assert_eq!(code, 0, "{text}");
        let line = |name: &str| text.lines().find(|line| line.contains(name)).unwrap_or_else(|| panic!("{text}"));
        assert!(line("second").contains("stands by") && line("first").contains("works"), "{text}");
        first.kill().await;
        Producer::connect(world).await.publish(&Message::new("user", "after", &receiver.url())).await;
        receiver.wait_for_key(SOON, "after").await;
        second.stop().await;
        assert!(Database::connect(world).await.owners().await.contains_key(""), "it was given back");
    });
}

#[test]
fn no_more_replicas_work_than_requests_may_be_open_to_a_host() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|_| Reply::ok().after(Duration::from_millis(5))).await;
        let settings = ["--host-connections", "1", "--partitions", "4"];
        let first = Worker::start(world, &settings).await;
        let second = spare(world, &settings).await;
        let message = |n| Message::new(&format!("user-{n}"), &format!("event-{n}"), &receiver.url());
        Producer::connect(world).await.publish_all(&(0..200).map(message).collect::<Vec<_>>()).await;
        receiver.wait_for_delivered(SOON, 100).await;
        first.stop().await;
        receiver.wait_for_delivered(SOON, 200).await;
        second.stop().await;
        assert_eq!(receiver.log().most_open, 1);
    });
}
