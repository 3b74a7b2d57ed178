//! The receivers of `deploy/examples`: an event that comes again has its effect once.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Response, StatusCode};
use reqwest::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::support::{Example, Load, Message, Producer, SOON, Worker, World, example_output, test, within};

/// A network between worker and receiver that loses the answer to each event's first attempt.
struct Lossy {
    client: Client,
    target: String,
    /// The statuses and texts that the receiver answered with.
    answers: watch::Sender<Vec<(u16, String)>>,
}

impl Lossy {
    async fn start(target: &str) -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let url = format!("http://{}/", listener.local_addr().expect("a bound port"));
        let lossy = Arc::new(Self { client: client(), target: target.to_owned(), answers: watch::Sender::default() });
        let router = Router::new().fallback(pass).with_state(Arc::clone(&lossy));
        tokio::spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        (lossy, url)
    }
}

async fn pass(State(lossy): State<Arc<Lossy>>, headers: HeaderMap, body: Bytes) -> Response<Body> {
    let attempt = headers["onceward-attempt"].clone();
    let answer =
        lossy.client.post(&lossy.target).headers(headers).body(body).send().await.expect("the receiver answers");
    let status = answer.status();
    let text = answer.text().await.expect("text");
    lossy.answers.send_modify(|answers| answers.push((status.as_u16(), text.trim().to_owned())));
    let mut response = Response::new(Body::empty());
    *response.status_mut() = if attempt == "1" { StatusCode::BAD_GATEWAY } else { status };
    response
}

fn client() -> Client {
    Client::builder().no_proxy().build().expect("an HTTP client")
}

/// Sends a request as the worker does: the status.
async fn post(url: &str, key: &str, body: &str) -> u16 {
    let request = client().post(url).header("idempotency-key", key).body(body.to_owned());
    request.send().await.expect("the receiver answers").status().as_u16()
}

async fn balance(url: &str) -> String {
    let answer = client().get(format!("{url}/ada")).send().await.expect("the receiver answers");
    answer.text().await.expect("text").trim().to_owned()
}

async fn acts_once(world: &World, url: &str) {
    let worker = Worker::start(world, &["--backoff-initial=100ms"]).await;
    let (lossy, through) = Lossy::start(url).await;
    let message = Message::new("ada", "deposit", &through).body(r#"{"account":"ada","amount":10}"#);
    Producer::connect(world).await.publish(&message).await;
    let mut answers = lossy.answers.subscribe();
    let both = within(SOON, "two attempts", answers.wait_for(|answers| answers.len() == 2)).await;
    assert_eq!(*both.expect("its sender lives"), [(200, "done".to_owned()), (200, "done before".to_owned())]);
    worker.stop().await;
    assert_eq!(balance(url).await, "10");

    // What fails is as if it had never come, and so it is done when it comes again.
    let withdrawal = r#"{"account":"ada","amount":-15}"#;
    assert_eq!((post(url, "withdrawal", withdrawal).await, balance(url).await.as_str()), (500, "10"));
    assert_eq!(post(url, "another deposit", r#"{"account":"ada","amount":20}"#).await, 200);
    for _ in 0..2 {
        assert_eq!((post(url, "withdrawal", withdrawal).await, balance(url).await.as_str()), (200, "15"));
    }
    let at_once = (0..8).map(|_| post(url, "at once", r#"{"account":"ada","amount":1}"#));
    assert_eq!(futures_util::future::join_all(at_once).await, [200; 8]);
    assert_eq!(balance(url).await, "16");
    assert_eq!(post(url, "no event", "no JSON").await, 500);
    assert_eq!(client().post(url).send().await.expect("an answer").status().as_u16(), 400, "a request without a key");
}

#[test]
fn the_python_receiver_acts_once_on_an_event_that_comes_again() {
    test(Load::Shared, async |world| {
        let file = example_output("receiver").join(format!("{}.sqlite", world.name)).display().to_string();
        let receiver = Example::of(world, "python3").args(["python/receiver.py", "0", &file]);
        let (_running, url) = receiver.start_receiver(world).await;
        acts_once(world, &url).await;
    });
}

#[test]
fn the_node_receiver_acts_once_on_an_event_that_comes_again() {
    test(Load::Shared, async |world| {
        let receiver = Example::of(world, "node").args(["node/receiver.js", "0"]);
        let (_running, url) = receiver.start_receiver(world).await;
        acts_once(world, &url).await;
    });
}
