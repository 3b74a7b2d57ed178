//! A host that is down burns no events: its gate shuts, for all workers; one event at a time probes it; when it is back, its
//! events go on, in order and in steps. What an operator pauses waits likewise.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::support::{
    Admin, Attempt, Database, DeadLetters, Load, Message, Producer, Receiver, Reply, SOON, SettingsFile, Worker, World,
    asking, run_to_end, test,
};

/// Probes that come fast enough for a test.
const FAST: [&str; 4] =
    ["--gate-probe-initial=200ms", "--gate-probe-max=1s", "--backoff-initial=100ms", "--backoff-max=1s"];

/// A port at which nobody listens.
async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    listener.local_addr().expect("a bound port").port()
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}/events")
}

/// Events of some entities, dealt out in turn.
fn messages(count: usize, entities: usize, destination: &str) -> Vec<Message> {
    let each = |n: usize| Message::new(&format!("entity-{}", n % entities), &format!("key-{n:04}"), destination);
    (0..count).map(each).collect()
}

async fn status(world: &World) -> Value {
    let (code, text) = run_to_end(world, &["status", "--json"]).await;
    assert_eq!(code, 0, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

/// Waits until a gate is shut.
async fn until_shut(world: &World) -> Value {
    let is_shut = async || {
        let status = status(world).await;
        let gates = status["gates"].as_array().expect("gates").clone();
        gates.into_iter().find(|gate| gate["state"] != "open")
    };
    asking(SOON, "a gate that is shut", is_shut).await
}

async fn operate(world: &World, arguments: &[&str]) -> String {
    let (code, text) = run_to_end(world, arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {text}");
    text
}

/// Of each entity, the keys came in the order of their numbers.
fn assert_order(attempts: &[Attempt]) {
    let mut last = std::collections::HashMap::new();
    for attempt in attempts.iter().filter(|attempt| attempt.succeeded()) {
        let before = last.insert(attempt.entity.clone(), attempt.key.clone());
        assert!(before.is_none_or(|before| before < attempt.key), "{} came out of order", attempt.key);
    }
}

/// The requests that were open when each of them began, itself among them.
fn open_at_each(attempts: &[Attempt]) -> Vec<usize> {
    let is_open =
        |attempt: &Attempt, at: Instant| attempt.started <= at && attempt.ended.is_none_or(|ended| ended > at);
    attempts.iter().map(|one| attempts.iter().filter(|other| is_open(other, one.started)).count()).collect()
}

#[test]
fn under_the_defaults_a_minute_of_refused_connections_fails_nothing() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &[]).await;
        let (port, began) = (free_port().await, Instant::now());
        Producer::connect(world).await.publish_all(&messages(100, 20, &url(port))).await;
        tokio::time::sleep(Duration::from_mins(1).saturating_sub(began.elapsed())).await;
        let receiver = Receiver::on("127.0.0.1", port, |_| Reply::ok()).await;
        receiver.wait_for_delivered(Duration::from_secs(10), 100).await;
        assert_order(&receiver.attempts());
        assert_eq!(receiver.attempts().len(), 100);
        let database = Database::connect(world).await;
        asking(SOON, "100 events DELIVERED", async || {
            (database.states().await.get("DELIVERED") == Some(&100)).then_some(())
        })
        .await;
        worker.stop().await;
    });
}

#[test]
fn while_a_gate_is_shut_events_spend_nothing_and_then_they_go_on_in_steps() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &FAST).await;
        let (port, producer) = (free_port().await, Producer::connect(world).await);
        producer.publish_all(&messages(200, 40, &url(port))).await;
        let shut = until_shut(world).await;
        assert_eq!(shut["host"], format!("127.0.0.1:{port}"));
        assert!(shut["reason"].as_str().is_some_and(|why| why.contains("no connection")), "{shut}");
        let (_, text) = run_to_end(world, &["status"]).await;
        assert!(text.contains("Gates") && text.contains("gate"), "{text}");
        // Those that come now wait as well.
        producer.publish_all(&messages(240, 40, &url(port))[200..]).await;
        worker.wait_for_line(SOON, "its gate stays shut").await;
        let receiver = Receiver::on("127.0.0.1", port, |_| Reply::ok().after(Duration::from_millis(30))).await;
        receiver.wait_for_delivered(SOON, 240).await;
        worker.stop().await;
        let attempts = receiver.attempts();
        assert_order(&attempts);
        assert_eq!(attempts.len(), 240, "none was sent twice");
        assert!(attempts.iter().all(|attempt| attempt.number <= 5));
        let open = open_at_each(&attempts);
        for (from, to, most) in [(0, 2, 1), (2, 4, 2), (4, 8, 4), (8, 16, 8)] {
            assert!(open[from..to].iter().all(|open| *open <= most), "{:?}", &open[..20]);
        }
        let database = Database::connect(world).await;
        assert_eq!(database.states().await.into_iter().collect::<Vec<_>>(), [("DELIVERED".to_owned(), 240)]);
    });
}

#[test]
fn an_event_that_alone_is_refused_shuts_no_gate() {
    test(Load::Shared, async |world| {
        let bad = |key: &str| key.ends_with('7');
        let receiver = Receiver::new(move |request| Reply::status(if bad(request.key) { 503 } else { 200 })).await;
        let worker = Worker::start(world, &FAST).await;
        let producer = Producer::connect(world).await;
        producer.publish(&Message::new("first", "first", &receiver.url())).await;
        receiver.wait_for_key(SOON, "first").await;
        producer.publish_all(&messages(100, 100, &receiver.url())).await;
        let letters = DeadLetters::open(world).await;
        letters.wait_for(SOON, 10).await;
        receiver.wait_for_delivered(SOON, 91).await;
        assert!(!worker.log().contains("gate is shut"), "{}", worker.log());
        assert_eq!(status(world).await["gates"], serde_json::json!([]));
        worker.stop().await;
    });
}

#[test]
fn of_several_workers_one_probes_at_a_time_and_the_gate_outlives_them() {
    test(Load::Shared, async |world| {
        let is_back = Arc::new(AtomicBool::new(false));
        let up = is_back.clone();
        let receiver = Receiver::new(move |_| {
            let status = if up.load(Ordering::SeqCst) { 200 } else { 503 };
            Reply::status(status).after(Duration::from_millis(100))
        })
        .await;
        // Of six attempts each, so many that none is exhausted before the host is back.
        let flags = [&FAST[..], &["--max-attempts=20", "--lease=3s", "--attempt-timeout=1s"]].concat();
        let first = Worker::start(world, &flags).await;
        let second = Worker::start(world, &flags).await;
        let database = Database::connect(world).await;
        database.wait_for_even_shares(SOON, 2).await;
        Producer::connect(world).await.publish_all(&messages(120, 60, &receiver.url())).await;
        until_shut(world).await;
        first.kill().await;
        // What was under way when it shut has ended; what comes now are probes.
        receiver.wait_for(SOON, "nothing under way", |log| log.open == 0).await;
        let before = receiver.attempts().len();
        receiver.wait_for(SOON, "three probes", |log| log.attempts.len() >= before + 3).await;
        let third = Worker::start(world, &flags).await;
        asking(SOON, "a gate that is still shut", async || {
            let gates = status(world).await["gates"].clone();
            gates.as_array().is_some_and(|gates| gates.iter().any(|gate| gate["state"] != "open")).then_some(())
        })
        .await;
        let probes = receiver.attempts().split_off(before);
        assert!(open_at_each(&probes).iter().all(|open| *open == 1), "{:?}", open_at_each(&probes));
        is_back.store(true, Ordering::SeqCst);
        receiver.wait_for_delivered(SOON * 2, 120).await;
        assert_order(&receiver.attempts());
        second.stop().await;
        third.stop().await;
        assert_eq!(database.states().await.get("FAILED"), None);
    });
}

#[test]
fn what_is_paused_waits_in_order_and_goes_on_when_it_is_resumed() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &FAST).await;
        let (receiver, other) = (Receiver::healthy().await, Receiver::at("127.0.0.2", |_| Reply::ok()).await);
        let producer = Producer::connect(world).await;
        let host = receiver.url().trim_start_matches("http://").trim_end_matches("/events").to_owned();
        let told = operate(world, &["pause", &host, "--why", "they move", "--by", "ada"]).await;
        assert!(told.contains(&format!("paused {host}")), "{told}");
        worker.wait_for_line(SOON, "they move").await;
        producer.publish_all(&messages(30, 5, &receiver.url())).await;
        producer.publish(&Message::new("other", "other", &other.url())).await;
        other.wait_for_delivered(SOON, 1).await;
        asking(SOON, "five entities that wait", async || {
            let shown = status(world).await;
            let blocked = shown["busiest"].as_array().expect("entities").clone();
            (blocked.iter().filter(|entity| entity["waits_for"] == "pause").count() == 5).then_some(())
        })
        .await;
        let shown = status(world).await;
        assert_eq!((&shown["pauses"][0]["name"], &shown["pauses"][0]["by"]), (&host.clone().into(), &"ada".into()));
        assert_eq!(receiver.attempts().len(), 0);
        let told = operate(world, &["resume", &receiver.url()]).await;
        assert!(told.contains("they move") && told.contains("ada"), "{told}");
        receiver.wait_for_delivered(SOON, 30).await;
        assert_order(&receiver.attempts());
        let (code, text) = run_to_end(world, &["resume", &host]).await;
        assert!(code != 0 && text.contains("is not paused"), "{code} {text}");
        worker.stop().await;
    });
}

#[test]
fn one_entity_is_paused_and_everything_is() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &FAST).await;
        let (receiver, producer) = (Receiver::healthy().await, Producer::connect(world).await);
        operate(world, &["pause", "--entity", "entity-1"]).await;
        worker.wait_for_line(SOON, "paused").await;
        producer.publish_all(&messages(40, 4, &receiver.url())).await;
        receiver.wait_for_delivered(SOON, 30).await;
        assert!(receiver.attempts().iter().all(|attempt| attempt.entity != "entity-1"));
        operate(world, &["pause", "--all", "--until", "4s"]).await;
        worker.wait_for_line(SOON, "everything").await;
        operate(world, &["resume", "--entity", "entity-1"]).await;
        let resumed = Instant::now();
        producer.publish_all(&messages(44, 4, &receiver.url())[40..]).await;
        receiver.wait_for_delivered(SOON, 44).await;
        assert!(resumed.elapsed() > Duration::from_secs(1), "everything was paused");
        assert_order(&receiver.attempts());
        worker.stop().await;
    });
}

#[test]
fn a_receiver_that_is_gone_is_paused_where_that_is_asked_for() {
    test(Load::Shared, async |world| {
        let is_gone = Arc::new(AtomicBool::new(true));
        let gone = is_gone.clone();
        let receiver = Receiver::new(move |_| Reply::status(if gone.load(Ordering::SeqCst) { 410 } else { 200 })).await;
        let other = Receiver::at("127.0.0.2", |_| Reply::status(410)).await;
        let text = format!("[names.billing]\nurl = \"{}\"\ngone = \"pause\"\n", receiver.url());
        let file = SettingsFile::new(world, &text);
        let worker = Worker::start(world, &[&FAST[..], &["--destinations", file.path()]].concat()).await;
        let producer = Producer::connect(world).await;
        producer.publish_all(&messages(20, 4, "billing")).await;
        producer.publish(&Message::new("other", "other", &other.url())).await;
        let letters = DeadLetters::open(world).await;
        letters.wait_for_key(SOON, "other").await;
        worker.wait_for_line(SOON, "410 Gone").await;
        let shown = status(world).await;
        assert_eq!(shown["pauses"][0]["name"], "billing", "{shown}");
        is_gone.store(false, Ordering::SeqCst);
        operate(world, &["resume", "billing"]).await;
        receiver.wait_for_delivered(SOON, 20).await;
        assert_order(&receiver.attempts());
        worker.stop().await;
        let database = Database::connect(world).await;
        assert_eq!(database.states().await.get("FAILED"), Some(&1), "the other one's");
    });
}

#[test]
fn a_limit_that_finds_itself_stays_near_what_a_receiver_bears() {
    /// Requests at a time that the receiver bears.
    const BEARS: usize = 5;
    test(Load::Shared, async |world| {
        let open = Arc::new(AtomicUsize::new(0));
        let router = Router::new().fallback(move || {
            let open = open.clone();
            async move {
                let is_too_much = open.fetch_add(1, Ordering::SeqCst) >= BEARS;
                tokio::time::sleep(Duration::from_millis(20)).await;
                open.fetch_sub(1, Ordering::SeqCst);
                if is_too_much { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK }
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let url = format!("http://{}/", listener.local_addr().expect("a bound port"));
        tokio::spawn(async move { axum::serve(listener, router).await.expect("the receiver serves") });
        let text = format!("[names.shop]\nurl = \"{url}\"\nadaptive = true\nattempts = 100\n");
        let file = SettingsFile::new(world, &text);
        let flags = ["--destinations", file.path(), "--backoff-initial=100ms", "--backoff-max=200ms"];
        let worker = Worker::start(world, &flags).await;
        let admin = Admin::of(&worker).await;
        Producer::connect(world).await.publish_all(&messages(1_500, 500, "shop")).await;
        let database = Database::connect(world).await;
        asking(SOON * 3, "1,500 events DELIVERED", async || {
            (database.states().await.get("DELIVERED") == Some(&1_500)).then_some(())
        })
        .await;
        let refused = admin
            .metrics()
            .await
            .iter()
            .filter(|(name, _)| name.contains("outcome=\"status\""))
            .map(|(_, n)| n)
            .sum::<f64>();
        // Without a limit, most of the first ones would be: 50 at a time.
        assert!(refused < 200.0, "{refused} of 1,500 were refused");
        worker.stop().await;
    });
}

#[test]
fn hosts_that_come_and_go_harm_nobody_else() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &[&FAST[..], &["--max-attempts=30"]].concat()).await;
        let is_up = Arc::new(AtomicBool::new(true));
        let mut receivers = Vec::new();
        for number in 0..10 {
            let is_up = is_up.clone();
            let ip = format!("127.0.0.{}", 10 + number);
            let flaps = number < 4;
            let answer = move |_: &crate::support::Request<'_>| {
                Reply::status(if flaps && !is_up.load(Ordering::SeqCst) { 503 } else { 200 })
            };
            receivers.push(Receiver::at(&ip, answer).await);
        }
        let flapping = async {
            loop {
                tokio::time::sleep(Duration::from_millis(700)).await;
                is_up.fetch_xor(true, Ordering::SeqCst);
            }
        };
        let working = async {
            let producer = Producer::connect(world).await;
            for round in 0..8 {
                let all = receivers.iter().enumerate().flat_map(|(number, receiver)| {
                    let url = receiver.url();
                    let each = move |n| {
                        let key = format!("key-{number}-{:04}", round * 20 + n);
                        Message::new(&format!("entity-{number}-{}", n % 5), &key, &url)
                    };
                    (0..20).map(each).collect::<Vec<_>>()
                });
                producer.publish_all(&all.collect::<Vec<_>>()).await;
                for receiver in &receivers[4..] {
                    receiver.wait_for_delivered(Duration::from_secs(5), (round + 1) * 20).await;
                }
            }
        };
        tokio::select! {
            () = flapping => {}
            () = working => {}
        }
        is_up.store(true, Ordering::SeqCst);
        for receiver in &receivers {
            receiver.wait_for_delivered(SOON, 160).await;
            assert_order(&receiver.attempts());
        }
        worker.stop().await;
    });
}
