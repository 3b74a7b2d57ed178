//! Nothing stands still unexplained: `status` says why events are not sent that no receiver has refused, and which limits the
//! workers can't keep.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::support::{
    Database, Load, Message, Producer, Receiver, Reply, SOON, SettingsFile, Worker, World, asking, run_to_end, test,
};

async fn status(world: &World) -> Value {
    let (code, text) = run_to_end(world, &["status", "--json", "--top", "100"]).await;
    assert_eq!(code, 0, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

/// Waits until `status` has this row for a host, and gives it.
async fn withheld(world: &World, host: &str, why: &str) -> Value {
    let row = async || {
        let status = status(world).await;
        let rows = status["withheld"].as_array().expect("a list").clone();
        rows.into_iter().find(|row| row["host"] == host && row["why"].as_str().is_some_and(|text| text.contains(why)))
    };
    asking(SOON, format_args!("status with {why:?} for {host}"), row).await
}

async fn nothing_is_withheld(world: &World) {
    let none = async || status(world).await["withheld"].as_array().is_some_and(Vec::is_empty).then_some(());
    asking(SOON * 2, "status without such reasons", none).await;
    let (_, text) = run_to_end(world, &["status", "--top", "100"]).await;
    assert!(!text.contains("Not sent"), "{text}");
}

/// Knows the client once it is told to.
async fn token_server(knows: Arc<AtomicBool>) -> String {
    let give = move || {
        let known = knows.load(Ordering::SeqCst);
        async move {
            if known {
                (StatusCode::OK, "{\"access_token\":\"one\",\"token_type\":\"Bearer\"}")
            } else {
                (StatusCode::UNAUTHORIZED, "{\"error\":\"invalid_client\"}")
            }
        }
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let url = format!("http://{}/token", listener.local_addr().expect("a bound port"));
    let router = Router::new().route("/token", post(give));
    tokio::spawn(async move { axum::serve(listener, router).await.expect("the token server serves") });
    url
}

#[test]
fn a_destination_without_a_token_or_an_entry_is_shown_with_the_reason() {
    test(Load::Shared, async |world| {
        let (receiver, knows) = (Receiver::healthy().await, Arc::new(AtomicBool::new(false)));
        let (url, token_url) = (receiver.url(), token_server(knows.clone()).await);
        let api = format!(
            "[names.api]\nurl = \"{url}\"\noauth2 = {{ token-url = \"{token_url}\", client-id = \"me\", client-secret = \"s3cret\" }}\n"
        );
        let both = format!("{api}[names.billing]\nurl = \"{url}\"\n");
        let file = SettingsFile::new(world, &both);
        let workers = [
            Worker::start(world, &["--destinations", file.path(), "--name", "left"]).await,
            Worker::start(world, &["--destinations", file.path(), "--name", "right"]).await,
        ];
        let database = Database::connect(world).await;
        database.wait_for_even_shares(SOON, 2).await;
        let producer = Producer::connect(world).await;
        let to_api: Vec<Message> =
            (0..20).map(|n| Message::new(&format!("user-{n}"), &format!("api-{n}"), "api")).collect();
        producer.publish_all(&to_api).await;
        let refused = "there is no token for the destination: the token server answered 401 (invalid_client)";
        let all = async || (withheld(world, "api", refused).await["entities"] == 20).then_some(());
        asking(SOON, "all of them", all).await;
        let row = withheld(world, "api", refused).await;
        assert_eq!(row["workers"], serde_json::json!(["left", "right"]), "events of both wait");
        let (_, text) = run_to_end(world, &["status", "--top", "100"]).await;
        assert!(text.contains("api: 20 entities wait, without spending attempts, for "), "{text}");
        assert!(text.contains(&format!("(at left, right): {refused}")), "{text}");
        assert!(!text.contains("s3cret"));

        // A worker that goes takes no reason along.
        workers[0].stop().await;
        assert_eq!(withheld(world, "api", refused).await["entities"], 20);
        knows.store(true, Ordering::SeqCst);
        receiver.wait_for_delivered(SOON, 20).await;
        nothing_is_withheld(world).await;

        receiver.behave(|_| Reply::status(503));
        producer.publish(&Message::new("user", "billed", "billing")).await;
        receiver.wait_for(SOON, "an attempt", |log| log.attempts.iter().any(|attempt| attempt.key == "billed")).await;
        assert!(status(world).await["withheld"].as_array().is_some_and(Vec::is_empty), "the receiver has refused it");
        file.write(&api);
        workers[1].signal("HUP");
        let row = withheld(world, "billing", "the destination is not configured any more").await;
        assert_eq!(row["entities"], 1);
        let (_, text) = run_to_end(world, &["status", "--top", "100"]).await;
        assert!(
            text.contains("billing: 1 entity waits, ") && text.contains("add it to the file of --destinations"),
            "{text}"
        );
        file.write(&both);
        workers[1].signal("HUP");
        receiver.behave(|_| Reply::ok());
        receiver.wait_for_key(SOON * 2, "billed").await;
        nothing_is_withheld(world).await;
        workers[1].stop().await;
    });
}

fn limit_files(worker: &Worker, soft: usize) {
    let limit = format!("--nofile={soft}:");
    let done = Command::new("prlimit").args(["--pid", &worker.pid().to_string(), &limit]).status();
    assert!(done.expect("prlimit runs").success(), "the limit is set");
}

#[test]
fn a_worker_that_is_short_of_descriptors_is_shown_with_the_reason() {
    test(Load::Shared, async |world| {
        const HOSTS: usize = 60;
        let receiver = Receiver::at("0.0.0.0", |_| Reply::ok()).await;
        let worker = Worker::start(world, &["--name", "narrow", "--max-attempts=1"]).await;
        let open = std::fs::read_dir(format!("/proc/{}/fd", worker.pid())).expect("its descriptors").count();
        // Three quarters of it are open already; what is left is for everything else. That is found out after some connections.
        limit_files(&worker, open + 5);
        let port = receiver.url_of("").rsplit(':').next().expect("a port").to_owned();
        let message = |n: usize| {
            Message::new(&format!("user-{n}"), &format!("event-{n}"), &format!("http://127.2.0.{}:{port}/", n + 1))
        };
        Producer::connect(world).await.publish_all(&(0..HOSTS).map(message).collect::<Vec<_>>()).await;
        let last = format!("127.2.0.{HOSTS}:{port}");
        let row = withheld(world, &last, "the worker is short of something of its own").await;
        // As it is found out before a connection is opened, or by the system's answer.
        let says = |what| row["why"].as_str().is_some_and(|why| why.contains(what));
        assert!(says("file descriptors are open") || says("Too many open files"), "{row}");
        assert_eq!((&row["workers"], &row["entities"]), (&serde_json::json!(["narrow"]), &1.into()));
        limit_files(&worker, 1_000);
        receiver.wait_for_delivered(SOON, HOSTS).await;
        assert_eq!(receiver.attempts().len(), HOSTS, "each was sent once");
        nothing_is_withheld(world).await;
        worker.stop().await;
    });
}

#[test]
fn a_limit_that_the_workers_can_not_keep_is_shown_with_the_remedy() {
    test(Load::Shared, async |world| {
        let file = SettingsFile::new(
            world,
            "[names.narrow]\nurl = \"http://127.0.0.1/\"\nconnections = 1\n[defaults]\nconnections = 2\n",
        );
        let first = Worker::start(world, &["--destinations", file.path()]).await;
        let database = Database::connect(world).await;
        assert_eq!(status(world).await["crowded"], serde_json::json!([]), "one worker keeps to both");
        let second = Worker::start(world, &["--destinations", file.path()]).await;
        database.wait_for_even_shares(SOON, 2).await;
        let crowded = serde_json::json!([{ "entry": "narrow", "connections": 1, "workers": 2 }]);
        let shown = async || (status(world).await["crowded"] == crowded).then_some(());
        asking(SOON, "status with the limit of one", shown).await;
        let (_, text) = run_to_end(world, &["status", "--top", "100"]).await;
        let sentence = "narrow: `connections` is 1, but each of the 2 workers has one request at a time, up to 2 together: \
                        set it to 2 or more, or run no more than 1\n";
        assert!(text.contains(sentence), "{text}");

        file.write("[names.narrow]\nurl = \"http://127.0.0.1/\"\nconnections = 2\n");
        first.signal("HUP");
        second.signal("HUP");
        let none = async || (status(world).await["crowded"] == serde_json::json!([])).then_some(());
        asking(SOON, "status without it", none).await;
        first.stop().await;
        second.stop().await;
    });
}
