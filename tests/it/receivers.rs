//! The receivers of `deploy/examples`: an event that comes again has its effect once, and one that is not signed has none.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use onceward::clock;
use onceward::domain::signature::SigningSecrets;
use reqwest::{Client, RequestBuilder};
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

/// The receiver's own secret, and an older one that the worker signs with, too.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLDER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const BODY: &str = r#"{"account":"ada","amount":10}"#;

/// A request as the worker sends it, signed at a time in seconds since 1970.
fn signed(url: &str, key: &str, body: &str, time: u64) -> RequestBuilder {
    let secrets: SigningSecrets = SECRET.parse().expect("a secret");
    let signature = secrets.sign(&key.to_owned().into(), time, body.as_bytes()).expect("a signature");
    let request = client().post(url).header("idempotency-key", key).header("webhook-id", key);
    request.header("webhook-timestamp", time).header("webhook-signature", signature).body(body.to_owned())
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.expect("the receiver answers").status().as_u16()
}

async fn post(url: &str, key: &str, body: &str) -> u16 {
    status(signed(url, key, body, clock::unix_seconds())).await
}

async fn balance(url: &str) -> String {
    let answer = client().get(format!("{url}/ada")).send().await.expect("the receiver answers");
    answer.text().await.expect("text").trim().to_owned()
}

async fn acts_once(world: &World, url: &str) {
    let secrets = format!("--signing-secrets={OLDER} {SECRET}");
    let worker = Worker::start(world, &["--backoff-initial=100ms", &secrets]).await;
    let (lossy, through) = Lossy::start(url).await;
    let message = Message::new("ada", "deposit", &through).body(BODY);
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
    assert_eq!(status(client().post(url)).await, 400, "a request without a key");
    assert_eq!(balance(url).await, "16");
}

async fn acts_on_nothing_that_is_not_signed(url: &str) {
    let now = clock::unix_seconds();
    let with = |name: &'static str, value: &'static str| {
        signed(url, "one", BODY, now)
            .headers([(HeaderName::from_static(name), HeaderValue::from_static(value))].into_iter().collect())
    };
    let unsigned = [
        client().post(url).header("idempotency-key", "one").body(BODY),
        signed(url, "one", BODY, now).body(BODY.replace("10", "99")),
        signed(url, "one", BODY, now - 600),
        with("webhook-id", "two"),
        with("idempotency-key", "two"),
        with("webhook-timestamp", "soon"),
        with("webhook-signature", "v1,bm90aGluZw=="),
    ];
    for (at, request) in unsigned.into_iter().enumerate() {
        assert_eq!(status(request).await, 401, "request {at}");
    }
    assert_eq!(status(client().get(format!("{url}/ada"))).await, 404, "an account was opened");
}

#[test]
fn the_python_receiver_acts_once_on_an_event_that_comes_again() {
    test(Load::Shared, async |world| {
        let file = example_output("receiver").join(format!("{}.sqlite", world.name)).display().to_string();
        let receiver = Example::of(world, "python3").args(["python/receiver.py", "0", &file]);
        let (_running, url) = receiver.env("SIGNING_SECRET", SECRET).start_receiver(world).await;
        acts_on_nothing_that_is_not_signed(&url).await;
        acts_once(world, &url).await;
    });
}

#[test]
fn the_node_receiver_acts_once_on_an_event_that_comes_again() {
    test(Load::Shared, async |world| {
        let receiver = Example::of(world, "node").args(["node/receiver.js", "0"]);
        let (_running, url) = receiver.env("SIGNING_SECRET", SECRET).start_receiver(world).await;
        acts_on_nothing_that_is_not_signed(&url).await;
        acts_once(world, &url).await;
    });
}
