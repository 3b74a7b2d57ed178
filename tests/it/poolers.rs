//! A pooler in front of the database: one that keeps sessions is as good as none, any other is told of at the start.

use crate::support::{Load, Message, Pooler, Producer, Receiver, SOON, Worker, run_to_end, test};

#[test]
fn a_worker_works_behind_a_pooler_that_keeps_sessions() {
    test(Load::Shared, async |world| {
        let pooler = Pooler::start(world, "session").await;
        let (receiver, url) = (Receiver::healthy().await, pooler.url(""));
        let worker = Worker::start(world, &["--database-url", &url]).await;
        let producer = Producer::connect(world).await;
        let message = |n| Message::new(&format!("user-{}", n % 7), &format!("event-{n}"), &receiver.url());
        producer.publish_all(&(0..200).map(message).collect::<Vec<_>>()).await;
        receiver.wait_for_delivered(SOON, 200).await;
        worker.stop().await;
    });
}

#[test]
fn a_worker_goes_on_when_its_pooler_is_started_again() {
    test(Load::Shared, async |world| {
        let mut pooler = Pooler::start(world, "session").await;
        let (receiver, url) = (Receiver::healthy().await, pooler.url(""));
        let worker = Worker::start(world, &["--database-url", &url]).await;
        let producer = Producer::connect(world).await;
        let message = |n| Message::new(&format!("user-{}", n % 7), &format!("event-{n}"), &receiver.url());
        producer.publish_all(&(0..50).map(message).collect::<Vec<_>>()).await;
        receiver.wait_for_delivered(SOON, 50).await;
        pooler.restart().await;
        producer.publish_all(&(50..100).map(message).collect::<Vec<_>>()).await;
        receiver.wait_for_delivered(SOON, 100).await;
        worker.stop().await;
    });
}

#[test]
fn a_pooler_that_shares_sessions_out_stops_the_start_with_one_line_that_says_what_to_change() {
    test(Load::Shared, async |world| {
        for mode in ["transaction", "statement"] {
            let pooler = Pooler::start(world, mode).await;
            for turn in 0..3 {
                let (code, text) = run_to_end(world, &["worker", "--database-url", &pooler.url("")]).await;
                let told: Vec<_> = text.lines().filter(|line| line.starts_with("onceward: ")).collect();
                let says = told.len() == 1 && told[0].contains("set `pool_mode = session` there");
                assert!(code == 2 && says, "{mode}, turn {turn}: {code} {text}");
            }
        }
    });
}

#[test]
fn a_parameter_that_a_pooler_refuses_stops_the_start_with_one_line() {
    test(Load::Shared, async |world| {
        let pooler = Pooler::start(world, "session").await;
        let url = pooler.url("&options=-c%20geqo%3Doff");
        let (code, text) = run_to_end(world, &["worker", "--database-url", &url]).await;
        assert!(code != 0 && text.contains("unsupported startup parameter") && text.contains("alter role"), "{text}");
    });
}
