//! An HTTP server that answers as the test tells it, and remembers every attempt.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, Request as HttpRequest, Response};
use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Reply, Request};

/// One request that a receiver got.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub key: String,
    pub entity: String,
    pub sequence: Option<i64>,
    pub number: u32,
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub started: Instant,
    /// When the answer was ready, or the sender gave up.
    pub ended: Option<Instant>,
    /// None: not answered.
    pub status: Option<u16>,
}

impl Attempt {
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a header in ASCII"))
    }
}

/// Everything that a receiver got so far.
#[derive(Default)]
pub struct Log {
    pub attempts: Vec<Attempt>,
    /// The keys that were answered with 2xx.
    pub delivered: HashSet<String>,
    pub open: usize,
    /// The most requests that were open at one time.
    pub most_open: usize,
}

type Behaviour = dyn Fn(&Request<'_>) -> Reply + Send + Sync;

struct Inner {
    log: Mutex<Log>,
    changes: watch::Sender<u64>,
    behaviour: Mutex<Arc<Behaviour>>,
}

/// The server.
#[derive(Clone)]
pub struct Receiver {
    inner: Arc<Inner>,
    address: SocketAddr,
}

impl Receiver {
    pub async fn new(behaviour: impl Fn(&Request<'_>) -> Reply + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1", behaviour).await
    }

    /// On another loopback address: another host.
    pub async fn at(ip: &str, behaviour: impl Fn(&Request<'_>) -> Reply + Send + Sync + 'static) -> Self {
        Self::on(ip, 0, behaviour).await
    }

    /// On a port of the test's choice.
    pub async fn on(ip: &str, port: u16, behaviour: impl Fn(&Request<'_>) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((ip, port)).await.expect("a loopback port");
        let address = listener.local_addr().expect("a bound port");
        let inner = Arc::new(Inner {
            log: Mutex::default(),
            changes: watch::Sender::new(0),
            behaviour: Mutex::new(Arc::new(behaviour)),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&inner));
        tokio::spawn(async move { axum::serve(listener, router).await.expect("the receiver serves") });
        Self { inner, address }
    }

    /// Answers every request with 200, at once.
    pub async fn healthy() -> Self {
        Self::new(|_| Reply::ok()).await
    }

    /// From now on, answers otherwise.
    pub fn behave(&self, behaviour: impl Fn(&Request<'_>) -> Reply + Send + Sync + 'static) {
        *self.inner.behaviour.lock().unwrap() = Arc::new(behaviour);
    }

    pub fn url(&self) -> String {
        self.url_of("/events")
    }

    pub fn url_of(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn log(&self) -> MutexGuard<'_, Log> {
        self.inner.log.lock().unwrap()
    }

    pub fn attempts(&self) -> Vec<Attempt> {
        self.log().attempts.clone()
    }

    pub fn attempts_of(&self, key: &str) -> Vec<Attempt> {
        self.log().attempts.iter().filter(|attempt| attempt.key == key).cloned().collect()
    }

    /// Waits until the log is as the test wants it.
    pub async fn wait_for(&self, time: Duration, what: &str, wanted: impl Fn(&Log) -> bool) {
        let mut changes = self.inner.changes.subscribe();
        let waiting = async { changes.wait_for(|_| wanted(&self.log())).await.map(|_| ()) };
        if let Ok(outcome) = tokio::time::timeout(time, waiting).await {
            return outcome.expect("the sender lives in self");
        }
        let (attempts, delivered, open) = {
            let log = self.log();
            (log.attempts.len(), log.delivered.len(), log.open)
        };
        panic!("after {time:?} still waiting for {what}: {attempts} attempts, {delivered} keys delivered, {open} open");
    }

    pub async fn wait_for_delivered(&self, time: Duration, count: usize) {
        self.wait_for(time, &format!("{count} delivered keys"), |log| log.delivered.len() >= count).await;
    }

    pub async fn wait_for_key(&self, time: Duration, key: &str) {
        self.wait_for(time, &format!("the delivery of {key}"), |log| log.delivered.contains(key)).await;
    }
}

impl Inner {
    fn change(&self, change: impl FnOnce(&mut Log)) {
        change(&mut self.log.lock().unwrap());
        self.changes.send_modify(|count| *count += 1);
    }
}

/// An attempt that is open: its end is noted also when the sender hangs up, and the handler is dropped.
struct Open {
    inner: Arc<Inner>,
    index: usize,
    status: Option<u16>,
}

impl Open {
    fn new(inner: &Arc<Inner>, attempt: Attempt) -> Self {
        let mut index = 0;
        inner.change(|log| {
            index = log.attempts.len();
            log.attempts.push(attempt);
            log.open += 1;
            log.most_open = log.most_open.max(log.open);
        });
        Self { inner: Arc::clone(inner), index, status: None }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.inner.change(|log| {
            let attempt = &mut log.attempts[self.index];
            attempt.ended = Some(Instant::now());
            attempt.status = self.status;
            if attempt.succeeded() {
                log.delivered.insert(attempt.key.clone());
            }
            log.open -= 1;
        });
    }
}

async fn answer(State(inner): State<Arc<Inner>>, request: HttpRequest<Body>) -> Response<Body> {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
    let attempt = Attempt {
        key: text(&head.headers, "idempotency-key"),
        entity: text(&head.headers, "onceward-entity"),
        sequence: head.headers.get("onceward-sequence").map(|_| number(&head.headers, "onceward-sequence")),
        number: number(&head.headers, "onceward-attempt"),
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: head.headers,
        body,
        started,
        ended: None,
        status: None,
    };
    let behaviour = Arc::clone(&inner.behaviour.lock().unwrap());
    let Attempt { key, sequence, number, .. } = &attempt;
    let token = attempt.header("authorization").unwrap_or_default();
    let reply = behaviour(&Request { key, sequence: *sequence, number: *number, token });
    let mut open = Open::new(&inner, attempt);
    reply.ready().await;
    open.status = Some(reply.status);
    drop(open);
    let mut response = Response::new(Body::from(reply.body));
    *response.status_mut() = reply.status.try_into().expect("a status");
    *response.headers_mut() = reply.headers;
    response
}

/// A header that every request has; a panic here fails the test.
fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).unwrap_or_else(|| panic!("the request has no {name}: {headers:?}"));
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &str) -> T {
    let text = text(headers, name);
    text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}"))
}
