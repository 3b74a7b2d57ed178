//! Each receiver has settings of its own: they hold for it alone, are read again while the worker runs, and a bad file changes
//! nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use tokio::net::TcpListener;

use crate::support::{
    Admin, Database, DeadLetters, Gate, Load, Message, Producer, Receiver, Reply, SOON, SettingsFile, Worker, World,
    asking, run_to_end, test,
};

/// A worker reads its file again within five seconds, if nobody says that it should.
const READ_AGAIN: Duration = Duration::from_secs(9);

fn messages(name: &str, count: usize, destination: &str) -> Vec<Message> {
    let names = (0..count).map(|number| format!("{name}-{number}"));
    names.map(|name| Message::new(&name, &name, destination)).collect()
}

async fn start(world: &World, file: &SettingsFile, more: &[&str]) -> Worker {
    Worker::start(world, &[&["--destinations", file.path()], more].concat()).await
}

#[test]
fn requests_to_a_named_destination_are_as_its_entry_has_them() {
    test(Load::Shared, async |world| {
        let named = Receiver::new(|_| Reply::ok().after(Duration::from_millis(20))).await;
        let other = Receiver::at("127.0.0.2", |_| Reply::ok().after(Duration::from_millis(20))).await;
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let text = format!(
            "[names.billing]\nurl = \"{}\"\nmethod = \"PUT\"\nconnections = 2\nsecrets = [\"{secret}\"]\n\
             headers = {{ x-tenant = \"blue\" }}\n",
            named.url_of("/in")
        );
        let file = SettingsFile::new(world, &text);
        let worker = start(world, &file, &[]).await;
        let producer = Producer::connect(world).await;
        producer.publish_all(&messages("named", 40, "billing")).await;
        producer.publish_all(&messages("other", 40, &other.url())).await;
        named.wait_for_delivered(SOON, 40).await;
        other.wait_for_delivered(SOON, 40).await;
        worker.stop().await;
        assert_eq!(named.log().most_open, 2, "its own limit is used, and not passed");
        assert!(other.log().most_open > 2, "the others have theirs: {}", other.log().most_open);
        for attempt in named.attempts() {
            assert_eq!((attempt.method.as_str(), attempt.path.as_str()), ("PUT", "/in"));
            assert_eq!(attempt.header("x-tenant"), Some("blue"));
            assert!(attempt.header("webhook-signature").is_some_and(|signature| signature.starts_with("v1,")));
        }
        for attempt in other.attempts() {
            assert_eq!((attempt.method.as_str(), attempt.header("webhook-signature")), ("POST", None));
        }
    });
}

#[test]
fn a_rate_is_kept_and_holds_up_nobody_else() {
    test(Load::Alone, async |world| {
        let slow = Receiver::healthy().await;
        let quick = Receiver::at("127.0.0.2", |_| Reply::ok()).await;
        let file = SettingsFile::new(world, "[hosts.\"127.0.0.1\"]\nrate = 20\n");
        let worker = start(world, &file, &[]).await;
        let producer = Producer::connect(world).await;
        producer.publish_all(&messages("slow", 60, &slow.url())).await;
        producer.publish_all(&messages("quick", 200, &quick.url())).await;
        quick.wait_for_delivered(Duration::from_secs(2), 200).await;
        slow.wait_for_delivered(SOON, 60).await;
        worker.stop().await;
        let mut begun: Vec<Instant> = slow.attempts().into_iter().map(|attempt| attempt.started).collect();
        begun.sort_unstable();
        let all = begun[59] - begun[0];
        assert!((Duration::from_millis(2_700)..Duration::from_secs(4)).contains(&all), "60 at 20 a second: {all:?}");
        for (first, last) in begun.iter().zip(&begun[24..]) {
            assert!(*last - *first >= Duration::from_millis(950), "25 requests in {:?}", *last - *first);
        }
    });
}

#[test]
fn outcomes_are_judged_as_the_destination_wants_it() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|request| match request.key {
            "conflict" => Reply::status(409),
            "once" | "held" => Reply::status(500),
            "listed" if request.number < 3 => Reply::status(500),
            _ => Reply::ok(),
        })
        .await;
        let (url, more) = (receiver.url(), "backoff = [\"100ms\", \"1s\"]");
        let text = format!(
            "[defaults]\nattempts = 3\n[names.first]\nurl = \"{url}\"\nsuccess-statuses = [200, 409]\n\
             [names.second]\nurl = \"{url}\"\nattempts = 1\n[names.third]\nurl = \"{url}\"\nattempts = 1\n\
             on-exhausted = \"hold\"\n[names.fourth]\nurl = \"{url}\"\n{more}\n"
        );
        let file = SettingsFile::new(world, &text);
        let worker = start(world, &file, &[]).await;
        let producer = Producer::connect(world).await;
        let keys = [("conflict", "first"), ("once", "second"), ("held", "third"), ("listed", "fourth")];
        for (key, name) in keys {
            producer.publish(&Message::new(key, key, name)).await;
            producer.publish(&Message::new(key, &format!("behind-{key}"), &url)).await;
        }
        for key in ["behind-conflict", "behind-once", "listed", "behind-listed"] {
            receiver.wait_for_key(SOON, key).await;
        }
        let database = Database::connect(world).await;
        let held = async || (database.state_of("held").await == ("FAILED".into(), 1)).then_some(());
        asking(SOON, "the event on hold", held).await;
        assert_eq!(database.state_of("conflict").await, ("DELIVERED".into(), 1));
        assert_eq!(database.state_of("once").await, ("FAILED".into(), 1));
        assert_eq!(database.state_of("behind-held").await, ("PENDING".into(), 0), "its entity waits");
        worker.stop().await;
        let listed: Vec<Instant> = receiver.attempts_of("listed").iter().map(|attempt| attempt.started).collect();
        let waits = [listed[1] - listed[0], listed[2] - listed[1]].map(|wait| wait.as_millis());
        assert!((100..600).contains(&waits[0]) && (1_000..1_600).contains(&waits[1]), "{waits:?}");
    });
}

#[test]
fn what_the_settings_take_for_success_is_measured_as_such() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|request| Reply::status(if request.number == 1 { 202 } else { 409 })).await;
        let text =
            format!("[names.api]\nurl = \"{}\"\nsuccess-statuses = [409]\nbackoff = [\"100ms\"]\n", receiver.url());
        let file = SettingsFile::new(world, &text);
        let worker = start(world, &file, &["--admin-listen", "127.0.0.1:0"]).await;
        Producer::connect(world).await.publish(&Message::new("user-1", "first", "api")).await;
        let admin = Admin::of(&worker).await;
        let counted = async || {
            let metrics = admin.metrics().await;
            (metrics["onceward_event_delivered_total"] >= 1.0).then_some(metrics)
        };
        let metrics = asking(SOON, "a delivered event", counted).await;
        let outcome = |name| metrics.get(&format!("onceward_attempt_total{{onceward_outcome=\"{name}\"}}"));
        assert_eq!((outcome("success"), outcome("status")), (Some(&1.0), Some(&1.0)), "{metrics:#?}");
        let requests: Vec<_> = metrics.keys().filter(|name| name.contains("request_duration_seconds_count")).collect();
        let error = |status: &str| {
            let mut of_status = requests.iter().filter(|name| name.contains(&format!("status_code=\"{status}\"")));
            of_status.any(|name| name.contains(&format!("error_type=\"{status}\"")))
        };
        assert!(error("202") && !error("409"), "{requests:?}");
        worker.stop().await;
    });
}

#[test]
fn events_that_wait_follow_a_url_that_changes_and_wait_for_a_name_that_is_gone() {
    test(Load::Shared, async |world| {
        let old = Receiver::new(|_| Reply::status(503)).await;
        let new = Receiver::at("127.0.0.2", |_| Reply::ok()).await;
        let entry = |receiver: &Receiver| format!("[names.billing]\nurl = \"{}\"\n", receiver.url());
        let file = SettingsFile::new(world, &entry(&old));
        let worker = start(world, &file, &["--max-attempts", "100", "--backoff-max", "1s"]).await;
        let dead_letters = DeadLetters::open(world).await;
        let producer = Producer::connect(world).await;
        producer.publish(&Message::new("user-1", "first", "billing")).await;
        producer.publish(&Message::new("user-1", "second", "billing")).await;
        old.wait_for(SOON, "an attempt", |log| !log.attempts.is_empty()).await;

        file.write("# nobody\n");
        worker.signal("HUP");
        worker.wait_for_line(SOON, "the file has changed, and holds").await;
        let (before, database) = (old.attempts().len(), Database::connect(world).await);
        producer.publish(&Message::new("user-2", "to-nobody", "billing")).await;
        let letter = dead_letters.wait_for_key(SOON, "to-nobody").await;
        assert_eq!(letter.reason(), "unknown_destination", "{}", letter.detail());
        let (state, attempts) = database.state_of("first").await;
        assert!(old.attempts().len() <= before + 1, "nothing is sent to a destination that is gone");
        assert_ne!(state, "FAILED");

        file.write(&entry(&new));
        worker.signal("HUP");
        new.wait_for_delivered(READ_AGAIN * 2, 2).await;
        let keys: Vec<String> = new.attempts().into_iter().map(|attempt| attempt.key).collect();
        assert_eq!(keys, ["first", "second"]);
        let (state, all) = database.state_of("first").await;
        assert!(state == "DELIVERED" && all <= attempts + 2, "no attempt is spent on waiting: {attempts}, {all}");
        worker.stop().await;
    });
}

#[test]
fn a_link_that_is_swapped_is_followed_as_kubernetes_swaps_it() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let file = SettingsFile::new(world, "");
        let directory = file.directory();
        for (version, tenant) in [("v1", "one"), ("v2", "two")] {
            std::fs::create_dir(directory.join(version)).unwrap();
            let text = format!("[defaults]\nheaders = {{ x-tenant = \"{tenant}\" }}\n");
            std::fs::write(directory.join(version).join("destinations.toml"), text).unwrap();
        }
        std::fs::remove_file(file.path()).unwrap();
        std::os::unix::fs::symlink("v1", directory.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/destinations.toml", file.path()).unwrap();
        let worker = start(world, &file, &[]).await;
        let producer = Producer::connect(world).await;
        producer.publish(&Message::new("user-1", "first", &receiver.url())).await;
        receiver.wait_for_key(SOON, "first").await;

        std::os::unix::fs::symlink("v2", directory.join("..data_tmp")).unwrap();
        std::fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
        worker.wait_for_line(READ_AGAIN, "the file has changed, and holds").await;
        producer.publish(&Message::new("user-1", "second", &receiver.url())).await;
        receiver.wait_for_key(SOON, "second").await;
        worker.stop().await;
        let attempts = receiver.attempts();
        let tenants: Vec<_> = attempts.iter().map(|attempt| attempt.header("x-tenant")).collect();
        assert_eq!(tenants, [Some("one"), Some("two")]);
    });
}

#[test]
fn a_bad_file_stops_the_start_and_changes_nothing_later() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::healthy().await;
        let good = "[defaults]\nattempts = 3\n";
        let file = SettingsFile::new(world, "[defaults]\nattempts = \"many\"\n");
        let (code, text) = run_to_end(world, &["worker", "--destinations", file.path()]).await;
        assert!(code != 0 && text.contains("destinations.toml:2:12"), "exit {code}: {text}");
        let nobody = ["worker", "--default-destination", "billing"];
        let (code, text) = run_to_end(world, &nobody).await;
        assert!(code != 0 && text.contains("[names.billing]"), "exit {code}: {text}");

        file.write(good);
        let worker = start(world, &file, &["--admin-listen", "127.0.0.1:0"]).await;
        let admin = Admin::of(&worker).await;
        let refused = async |value: f64| {
            let is_told =
                async || (admin.metrics().await.get("onceward_destinations_refused") == Some(&value)).then_some(());
            asking(SOON, format_args!("the gauge at {value}"), is_told).await;
        };
        refused(0.0).await;
        file.write("[defaults]\natempts = 3\n");
        worker.signal("HUP");
        worker.wait_for_line(SOON, "destinations.toml:2:1").await;
        refused(1.0).await;
        let says = async |says: &str| {
            let shown = async || run_to_end(world, &["status"]).await.1.contains(says).then_some(());
            asking(SOON, format_args!("status with {says:?}"), shown).await;
        };
        says("has refused the destinations' file").await;
        Producer::connect(world).await.publish(&Message::new("user-1", "first", &receiver.url())).await;
        receiver.wait_for_key(SOON, "first").await;
        file.write(good);
        worker.signal("HUP");
        refused(0.0).await;
        says("FAILED events kept").await;
        worker.stop().await;
    });
}

#[test]
fn a_limit_is_one_for_all_replicas_and_another_version_is_shown() {
    test(Load::Alone, async |world| {
        let receiver = Receiver::new(|_| Reply::ok().after(Duration::from_millis(30))).await;
        let file = SettingsFile::new(world, "[hosts.\"127.0.0.1\"]\nconnections = 12\n");
        let first = start(world, &file, &[]).await;
        let mut others = Vec::new();
        for _ in 0..2 {
            others.push(start(world, &file, &[]).await);
        }
        let database = Database::connect(world).await;
        database.wait_for_even_shares(SOON, 3).await;
        Producer::connect(world).await.publish_all(&messages("event", 600, &receiver.url())).await;
        receiver.wait_for_delivered(Duration::from_secs(30), 600).await;
        let most = receiver.log().most_open;
        assert!((9..=12).contains(&most), "{most} requests at a time");

        file.write("[hosts.\"127.0.0.1\"]\nconnections = 11\n");
        first.signal("HUP");
        let shown = async || run_to_end(world, &["status"]).await.1.contains("have different versions").then_some(());
        asking(READ_AGAIN, "status with the difference", shown).await;
        for worker in others.iter().chain([&first]) {
            worker.stop().await;
        }
    });
}

#[test]
fn an_attempt_is_judged_by_what_held_when_it_began() {
    test(Load::Shared, async |world| {
        let gate = Gate::closed();
        let behind = gate.clone();
        let receiver = Receiver::new(move |_| Reply::status(500).behind(&behind)).await;
        let entry = format!("[names.billing]\nurl = \"{}\"\nattempts = 50\nbackoff = [\"100ms\"]\n", receiver.url());
        let file = SettingsFile::new(world, &entry);
        let worker = start(world, &file, &["--max-attempts", "1", "--attempt-timeout", "2s"]).await;
        Producer::connect(world).await.publish(&Message::new("user-1", "first", "billing")).await;
        receiver.wait_for(SOON, "an open request", |log| log.open == 1).await;
        file.write("");
        worker.signal("HUP");
        worker.wait_for_line(SOON, "the file has changed, and holds").await;
        gate.open();
        worker.wait_for_line(SOON, "a destination is not configured any more").await;
        let database = Database::connect(world).await;
        assert_ne!(database.state_of("first").await.0, "FAILED");
        receiver.behave(|_| Reply::ok());
        file.write(&entry);
        worker.signal("HUP");
        receiver.wait_for_delivered(READ_AGAIN * 2, 1).await;
        worker.stop().await;
    });
}

/// Gives out tokens by client credentials, numbered from 1, or refuses.
async fn token_server(works: Arc<AtomicBool>) -> String {
    let given = Arc::new(AtomicUsize::new(0));
    let give = move |headers: HeaderMap, body: String| {
        let (works, given) = (works.clone(), given.clone());
        async move {
            assert!(body.contains("grant_type=client_credentials"), "{body}");
            assert!(headers["authorization"].to_str().is_ok_and(|value| value.starts_with("Basic ")));
            if !works.load(Ordering::SeqCst) {
                return (StatusCode::SERVICE_UNAVAILABLE, String::new());
            }
            let number = given.fetch_add(1, Ordering::SeqCst) + 1;
            let answer =
                format!("{{\"access_token\":\"token-{number}\",\"token_type\":\"Bearer\",\"expires_in\":3600}}");
            (StatusCode::OK, answer)
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let url = format!("http://{}/token", listener.local_addr().expect("a bound port"));
    let router = Router::new().route("/token", post(give));
    tokio::spawn(async move { axum::serve(listener, router).await.expect("the token server serves") });
    url
}

#[test]
fn a_receiver_that_wants_a_token_gets_one_and_a_new_one_when_it_refuses_it() {
    test(Load::Shared, async |world| {
        let works = Arc::new(AtomicBool::new(false));
        let url = token_server(works.clone()).await;
        // The first token is refused once it was used.
        let receiver = Receiver::new(|request| match (request.key, request.token) {
            ("first", "Bearer token-1") | (_, "Bearer token-2") => Reply::ok(),
            _ => Reply::status(401),
        })
        .await;
        let text = format!(
            "[names.api]\nurl = \"{}\"\noauth2 = {{ token-url = \"{url}\", client-id = \"me\", client-secret = \"s3cret\" }}\n",
            receiver.url()
        );
        let file = SettingsFile::new(world, &text);
        let worker = start(world, &file, &["--max-attempts", "1"]).await;
        let producer = Producer::connect(world).await;
        producer.publish(&Message::new("user-1", "first", "api")).await;
        worker.wait_for_line(SOON, "there is no token for a destination").await;
        assert!(receiver.attempts().is_empty(), "nothing is sent without a token");
        works.store(true, Ordering::SeqCst);
        receiver.wait_for_key(SOON, "first").await;
        producer.publish(&Message::new("user-1", "second", "api")).await;
        producer.publish(&Message::new("user-1", "third", "api")).await;
        receiver.wait_for_delivered(SOON, 3).await;
        worker.stop().await;
        let sent: Vec<(String, u32, u16)> = (receiver.attempts().into_iter())
            .map(|attempt| (attempt.key, attempt.number, attempt.status.expect("answered")))
            .collect();
        let expected = [("first", 1, 200), ("second", 1, 401), ("second", 1, 200), ("third", 1, 200)];
        assert_eq!(sent, expected.map(|(key, number, status)| (key.to_owned(), number, status)));
        assert!(!worker.log().contains("s3cret") && !worker.log().contains("token-1"));
    });
}
