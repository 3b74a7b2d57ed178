//! Starting: what is wrong is said in one line, and at once.

use std::time::Duration;

use crate::support::{Load, Message, Producer, Receiver, SOON, Worker, run_to_end, test};

#[test]
fn bad_settings_stop_the_start_with_one_line() {
    test(Load::Shared, async |world| {
        let cases: [(&[&str], &str); 9] = [
            (&["--lease", "2s", "--attempt-timeout", "2s"], "--lease"),
            (&["--backoff-max", "100ms"], "--backoff-max"),
            (&["--backoff-initial", "10ms"], "--backoff-initial"),
            (&["--drain-time", "1s"], "--drain-time"),
            (&["--retention", "1s"], "--retention"),
            (&["--final-statuses", "200"], "--final-statuses"),
            (&["--default-destination", "ftp://host/"], "--default-destination"),
            (&["--partitions", "0"], "--partitions"),
            (&["--attempt-timeout", "five"], "--attempt-timeout"),
        ];
        for (arguments, setting) in cases {
            let (code, text) = run_to_end(world, &[&["worker"], arguments].concat()).await;
            assert_eq!(code, 2, "{arguments:?}: {text}");
            assert!(text.lines().next().is_some_and(|line| line.contains(setting)), "{arguments:?}: {text}");
        }
    });
}

#[test]
fn the_rules_between_settings_are_told_in_one_line() {
    test(Load::Shared, async |world| {
        let (code, text) = run_to_end(world, &["worker", "--drain-time", "1s"]).await;
        assert_eq!((code, text.trim().lines().count()), (2, 1), "{text}");
    });
}

#[test]
fn a_password_is_never_printed() {
    test(Load::Shared, async |world| {
        let secret = "postgres://user:hunter2@127.0.0.1:1/nothing";
        let worker = Worker::spawn(world, &["--database-url", secret]);
        worker.wait_for_line(SOON, "127.0.0.1:1").await;
        worker.kill().await;
        assert!(!worker.log().contains("hunter2"), "{}", worker.log());
        let (code, text) = run_to_end(world, &["worker", "--amqp-url", "http://guest:hunter2@host/"]).await;
        assert_eq!(code, 2);
        // clap shows the value of a flag that it does not accept; ours must not be shown.
        assert!(!text.contains("hunter2"), "{text}");
    });
}

#[test]
fn another_partition_count_is_refused() {
    test(Load::Shared, async |world| {
        Worker::start(world, &["--partitions", "4"]).await.stop().await;
        let (code, text) = run_to_end(world, &["worker", "--partitions", "8"]).await;
        assert_ne!(code, 0);
        assert!(text.contains('4') && text.contains('8') && text.contains("partitions"), "{text}");
        // The right count starts as before.
        Worker::start(world, &["--partitions", "4"]).await.stop().await;
    });
}

#[test]
fn an_exchange_by_another_name_is_a_world_of_its_own() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &["--exchange", "orders"]).await;
        let receiver = Receiver::healthy().await;
        let producer = Producer::connect(world).await.through("orders");
        producer.publish(&Message::new("user-1", "named", &receiver.url())).await;
        receiver.wait_for_key(SOON, "named").await;
        worker.stop().await;
    });
}

#[test]
fn a_worker_waits_for_a_database_that_is_not_there_yet() {
    test(Load::Shared, async |world| {
        let worker = Worker::spawn(world, &["--database-url", "postgres://postgres@127.0.0.1:1/nothing"]);
        worker.wait_for_line(SOON, "127.0.0.1:1").await;
        worker.signal("TERM");
        worker.exit_code(Duration::from_secs(10)).await;
    });
}
