//! Names of receivers: those that move, and those that nobody answers for.

use std::time::{Duration, Instant};

use url::Url;

use crate::support::{Load, Message, NameServer, Named, Producer, Receiver, Reply, SOON, Worker, test};

fn port_of(receiver: &Receiver) -> u16 {
    Url::parse(&receiver.url()).expect("a URL").port().expect("a port")
}

#[test]
fn a_name_that_moves_is_followed_within_the_life_of_a_connection() {
    test(Load::Shared, async |world| {
        const LIFE: Duration = Duration::from_secs(2);
        let before = Receiver::healthy().await;
        let port = port_of(&before);
        let after = Receiver::on("127.0.0.2", port, |_| Reply::ok()).await;
        let names = NameServer::new(|_| Named::at(&["127.0.0.1"])).await;
        let worker = Worker::start(world, &["--connection-life=2s", &names.flag()]).await;
        let producer = Producer::connect(world).await;
        let url = format!("http://moving.test:{port}/");
        let publish =
            async |n: usize| producer.publish(&Message::new(&n.to_string(), &format!("event-{n}"), &url)).await;
        publish(0).await;
        before.wait_for_delivered(SOON, 1).await;
        names.behave(|_| Named::at(&["127.0.0.2"]));
        let moved = Instant::now();
        let mut sent = 1;
        // The connection is used all the time.
        while moved.elapsed() < LIFE + Duration::from_secs(2) {
            publish(sent).await;
            sent += 1;
            tokio::time::sleep(Duration::from_millis(90)).await;
        }
        let all = |log: &crate::support::Log| log.delivered.len() + before.log().delivered.len() >= sent;
        after.wait_for(SOON, "all events", all).await;
        let last = before.attempts().last().expect("the first went there").started;
        let late = last.saturating_duration_since(moved);
        assert!(late < LIFE + Duration::from_secs(1), "the old address was called {late:?} after the move");
        assert!(before.log().attempts.len() > 1, "kept connections are used");
        worker.stop().await;
    });
}

#[test]
fn names_that_nobody_answers_for_hold_up_nobody_else() {
    test(Load::Alone, async |world| {
        const SILENT: usize = 40;
        const HEALTHY: usize = 200;
        let receiver = Receiver::new(|_| Reply::ok().header("connection", "close")).await;
        let port = port_of(&receiver);
        let names = NameServer::new(|name| match name {
            "healthy.test" => Named::at(&["127.0.0.1"]),
            "ipv4.test" => Named::SilentAboutIpv6(vec![[127, 0, 0, 1].into()]),
            _ => Named::Silent,
        })
        .await;
        let worker = Worker::start(world, &["--attempt-timeout=5s", "--lease=15s", &names.flag()]).await;
        let producer = Producer::connect(world).await;
        let event = |host: &str, n: usize| {
            let key = format!("{host}-{n}");
            Message::new(&key, &key, &format!("http://{host}:{port}/"))
        };
        let silent = (0..SILENT * 10).map(|n| event(&format!("silent-{}.test", n % SILENT), n));
        producer.publish_all(&silent.collect::<Vec<_>>()).await;
        let mut slowest = Duration::ZERO;
        for n in 0..HEALTHY {
            let host = if n % 10 == 9 { "ipv4.test" } else { "healthy.test" };
            let published = Instant::now();
            producer.publish(&event(host, n)).await;
            receiver.wait_for_delivered(SOON, n + 1).await;
            slowest = slowest.max(published.elapsed());
        }
        assert_eq!(receiver.attempts().len(), HEALTHY, "each went by its first attempt");
        assert!(slowest < Duration::from_secs(2), "a healthy event took {slowest:?}");
        let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).expect("a process that runs");
        let threads = status.lines().find_map(|line| line.strip_prefix("Threads:")).expect("a number of threads");
        assert!(threads.trim().parse::<usize>().expect("a number") < 64, "{threads} threads");
        worker.stop().await;
    });
}
