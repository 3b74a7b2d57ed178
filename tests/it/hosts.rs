//! Gentle: a host is never asked too much, and one that hangs holds up nobody else.

use std::time::{Duration, Instant};

use crate::support::{Check, Gate, Load, Message, Producer, Receiver, Reply, SOON, Worker, test};

#[test]
fn a_host_never_sees_more_than_fifty_requests_at_once_though_two_thousand_events_wait() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|_| Reply::ok().after(Duration::from_millis(30))).await;
        let worker = Worker::start(world, &[]).await;
        // Two paths are one host.
        let paths = [receiver.url_of("/one"), receiver.url_of("/two")];
        let message = |n: usize| Message::new(&format!("user-{n}"), &format!("event-{n}"), &paths[n % 2]);
        let messages: Vec<_> = (0..2_000).map(message).collect();
        Producer::connect(world).await.publish_all(&messages).await;
        receiver.wait_for_delivered(Duration::from_mins(1), messages.len()).await;
        worker.stop().await;
        assert_eq!(receiver.log().most_open, 50, "all that is allowed is used, and no more");
        Check::new(receiver.attempts(), 5).nothing_resent().numbers_without_holes();
    });
}

#[test]
fn the_cap_on_a_host_is_a_setting() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|_| Reply::ok().after(Duration::from_millis(20))).await;
        let worker = Worker::start(world, &["--host-connections", "3"]).await;
        let message = |n| Message::new(&format!("user-{n}"), &format!("event-{n}"), &receiver.url());
        Producer::connect(world).await.publish_all(&(0..100).map(message).collect::<Vec<_>>()).await;
        receiver.wait_for_delivered(SOON, 100).await;
        worker.stop().await;
        assert_eq!(receiver.log().most_open, 3);
    });
}

#[test]
fn a_host_that_hangs_delays_nobody_elses_events() {
    test(Load::Alone, async |world| {
        let timeout = Duration::from_secs(5);
        let worker = Worker::start(world, &["--attempt-timeout", "5s", "--lease", "8s"]).await;
        let hanging = Receiver::new(|_| Reply::hang()).await;
        let healthy = Receiver::healthy().await;
        let producer = Producer::connect(world).await;
        let to = |host: &Receiver, name: &str, count: usize| -> Vec<Message> {
            let names = (0..count).map(|number| format!("{name}-{number}"));
            names.map(|name| Message::new(&name, &name, &host.url())).collect()
        };
        producer.publish_all(&to(&hanging, "hanging", 2_000)).await;
        hanging.wait_for(SOON, "fifty open requests", |log| log.open == 50).await;

        let begun = Instant::now();
        producer.publish_all(&to(&healthy, "healthy", 500)).await;
        healthy.wait_for_delivered(timeout, 500).await;
        assert!(begun.elapsed() < timeout, "no hanging attempt had to end first");
        // One at a time, each waiting for nothing but its own way.
        for message in to(&healthy, "single", 20) {
            producer.publish(&message).await;
            healthy.wait_for_key(Duration::from_secs(1), message.name()).await;
        }
        worker.kill().await;
        assert_eq!(healthy.attempts().len(), 520);
    });
}

#[test]
fn a_slow_host_keeps_its_own_fifty_while_a_quick_one_is_served() {
    test(Load::Shared, async |world| {
        let gate = Gate::closed();
        let (behind, gate_of_slow) = (gate.clone(), &gate);
        let slow = Receiver::at("127.0.0.2", move |_| Reply::ok().behind(&behind)).await;
        let quick = Receiver::at("127.0.0.3", |_| Reply::ok()).await;
        let long = ["--attempt-timeout", "20s", "--lease", "30s"];
        let worker = Worker::start(world, &long).await;
        let producer = Producer::connect(world).await;
        let message = |host: &Receiver, n| Message::new(&format!("user-{n}"), &format!("event-{n}"), &host.url());
        producer.publish_all(&(0..300).map(|n| message(&slow, n)).collect::<Vec<_>>()).await;
        slow.wait_for(SOON, "fifty open requests", |log| log.open == 50).await;
        producer.publish_all(&(300..600).map(|n| message(&quick, n)).collect::<Vec<_>>()).await;
        quick.wait_for_delivered(SOON, 300).await;
        assert_eq!(slow.log().delivered.len(), 0, "the slow host answered nothing so far");
        gate_of_slow.open();
        slow.wait_for_delivered(SOON, 300).await;
        worker.stop().await;
        assert_eq!(slow.log().most_open, 50);
    });
}
