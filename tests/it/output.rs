//! Standard output that is full, or that nobody reads: a command says so in one line and fails, and does what it was to do.

use std::fs::File;
use std::process::Stdio;

use crate::support::{
    Database, DeadLetters, Load, Message, Producer, Receiver, Reply, SOON, Worker, World, asking, run_to_end_into, test,
};

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").expect("a device that is full").into()
}

fn closed() -> Stdio {
    let (_, writer) = std::io::pipe().expect("a pipe");
    writer.into()
}

/// It fails where there is no room, and where nobody reads.
fn refuses(world: &World, arguments: &[&str]) {
    for (stdout, why) in [(full(), "No space left on device (os error 28)"), (closed(), "Broken pipe (os error 32)")] {
        fails(world, arguments, stdout, why);
    }
}

fn fails(world: &World, arguments: &[&str], stdout: Stdio, why: &str) {
    let (code, text) = run_to_end_into(world, arguments, stdout);
    let complaints: Vec<_> = text.lines().filter(|line| line.starts_with("onceward: ")).collect();
    assert_eq!(
        (code, &complaints[..]),
        (1, &[&*format!("onceward: standard output: {why}")][..]),
        "{arguments:?}: {text}"
    );
    assert!(!text.contains("panicked"), "{arguments:?}: {text}");
}

#[test]
fn a_command_whose_answer_can_not_be_written_says_so_in_one_line_and_fails() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &["--name", "one"]).await;
        let destinations = format!("{}/output-destinations.toml", env!("CARGO_TARGET_TMPDIR"));
        std::fs::write(&destinations, "# nobody\n").expect("the file is written");
        let commands: [&[&str]; 9] = [
            &["status"],
            &["status", "--json"],
            &["report", "--schema"],
            &["destinations", "check", &destinations],
            &["pause", "--all"],
            &["completions", "bash"],
            &["sink", "--listen", "127.0.0.1:0"],
            &["--help"],
            &["worker", "--help"],
        ];
        for command in commands {
            refuses(world, command);
        }
        fails(world, &["resume", "--all"], full(), "No space left on device (os error 28)");
        let publish =
            ["publish", "--entity", "a", "--destination", "http://127.0.0.1:1/", "--body", "1", "--key", "only"];
        let (code, text) = run_to_end_into(world, &publish, full());
        assert!(code == 1 && text.contains("confirmed: key only\nonceward: standard output: "), "{text}");
        worker.stop().await;
    });
}

#[test]
fn a_redrive_carries_out_all_keys_whatever_becomes_of_its_lines() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|_| Reply::status(500)).await;
        let worker = Worker::start(world, &["--max-attempts", "1", "--partitions", "1"]).await;
        let (producer, dead_letters) = (Producer::connect(world).await, DeadLetters::open(world).await);
        let keys = ["one", "two", "three"];
        for key in keys {
            producer.publish(&Message::new(key, key, &receiver.url())).await;
        }
        dead_letters.wait_for(SOON, keys.len()).await;
        receiver.behave(|_| Reply::ok());
        fails(world, &["redrive", "one", "two", "three"], full(), "No space left on device (os error 28)");
        let database = Database::connect(world).await;
        for key in keys {
            let is_delivered = async || (database.state_of(key).await.0 == "DELIVERED").then_some(());
            asking(SOON, format_args!("the delivery of {key}"), is_delivered).await;
        }
        worker.stop().await;
    });
}
