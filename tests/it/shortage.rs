//! A machine that is short of something: no attempt is spent on it.

use std::process::Command;
use std::time::Duration;

use url::Url;

use crate::support::{Admin, DeadLetters, Load, Message, Producer, Receiver, Reply, SOON, Worker, World, test};

/// File descriptors that the worker may have open, in all: about a third of what its receivers would take.
const FILES: usize = 110;
const RECEIVERS: usize = 6;
const EVENTS: usize = 100;

fn limit_files(worker: &Worker, files: usize) {
    let limit = format!("--nofile={files}:{files}");
    let done = Command::new("prlimit").args(["--pid", &worker.pid().to_string(), &limit]).status();
    assert!(done.expect("prlimit runs").success(), "the limit is set");
}

async fn publish(world: &World, receivers: &[Receiver]) {
    let producer = Producer::connect(world).await;
    let mut messages = Vec::new();
    for (at, receiver) in receivers.iter().enumerate() {
        let message = |n: usize| Message::new(&format!("user-{at}-{n}"), &format!("event-{at}-{n}"), &receiver.url());
        messages.extend((0..EVENTS).map(message));
    }
    producer.publish_all(&messages).await;
}

#[test]
fn descriptors_that_run_out_cost_no_attempt() {
    test(Load::Alone, async |world| {
        let mut receivers = Vec::new();
        for _ in 0..RECEIVERS {
            receivers.push(Receiver::new(|_| Reply::ok().after(Duration::from_millis(200))).await);
        }
        let worker = Worker::start(world, &["--max-attempts=1"]).await;
        let dead_letters = DeadLetters::open(world).await;
        limit_files(&worker, FILES);
        publish(world, &receivers).await;
        for receiver in &receivers {
            receiver.wait_for_delivered(SOON * 3, EVENTS).await;
            let log = receiver.log();
            assert!(log.attempts.iter().all(|attempt| attempt.status == Some(200)), "each was sent once");
            assert_eq!(log.attempts.len(), EVENTS);
        }
        assert!(worker.log().contains("short of something"), "the limit was reached: {}", worker.log());
        assert_eq!(dead_letters.taken().len(), 0);
        worker.stop().await;
    });
}

#[test]
fn the_soft_limit_of_descriptors_is_raised_to_the_hard_one() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &[]).await;
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", worker.pid())).expect("the worker's limits");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line for files");
        let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
        assert_eq!(numbers[0], numbers[1], "{line}");
        worker.stop().await;
    });
}

#[test]
fn more_hosts_than_descriptors_are_all_delivered_to() {
    test(Load::Alone, async |world| {
        const HOSTS: usize = 1_000;
        let receiver = Receiver::at("0.0.0.0", |_| Reply::ok()).await;
        let port = Url::parse(&receiver.url()).expect("a URL").port().expect("a port");
        let worker = Worker::start(world, &["--max-attempts=1"]).await;
        let dead_letters = DeadLetters::open(world).await;
        limit_files(&worker, 256);
        let producer = Producer::connect(world).await;
        let message = |n: usize| {
            let url = format!("http://127.1.{}.{}:{port}/", n / 250, n % 250 + 1);
            Message::new(&format!("user-{n}"), &format!("event-{n}"), &url)
        };
        producer.publish_all(&(0..HOSTS).map(message).collect::<Vec<_>>()).await;
        receiver.wait_for_delivered(SOON * 3, HOSTS).await;
        assert_eq!(dead_letters.taken().len(), 0);
        // What keeps its own descriptors: the admin port answers.
        Admin::of(&worker).await.wait_for_ready(true, "ready").await;
        worker.stop().await;
    });
}
