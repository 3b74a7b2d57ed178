//! One attempt is one HTTP request.

pub mod answer;
mod client;
pub mod clients;
mod descriptors;
mod names;
pub mod oauth2;
mod own;
mod payload;
mod pool;
mod progress;
mod resolver;
mod tls;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use reqwest::Request;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;
use url::Url;

use self::client::Trouble;
use self::clients::Clients;
use self::names::Unresolved;
use self::payload::Payload;
use self::pool::{Pool, Way};
use self::progress::Progress;
use self::resolver::Refused;
use crate::clock;
use crate::domain::candidate::Candidate;
use crate::domain::destination::{Destination, Destinations, RequestSettings};
use crate::domain::event::Event;
use crate::domain::lease::may_send;
use crate::domain::trace_context;
use crate::domain::verdict::{NoResponse, NotSent, Outcome, Phase};
use crate::handoff::{Attempt, Ended};
use crate::lease::Held;
use crate::telemetry::{metrics, trace};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const ENTITY: HeaderName = HeaderName::from_static("onceward-entity");
const SEQUENCE: HeaderName = HeaderName::from_static("onceward-sequence");
const ATTEMPT: HeaderName = HeaderName::from_static("onceward-attempt");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// As many headers are added to the producer's, the client's own among them.
const OWN_HEADERS: usize = 15;

/// Bytes of an entity that are percent-encoded (RFC 3986) in its header: all that is not visible ASCII, and `%`.
const NOT_VISIBLE: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// What all attempts are sent by.
#[derive(Clone)]
pub struct Sender {
    /// The HTTP clients.
    pub clients: Arc<Clients>,
    /// What holds for each receiver now.
    pub destinations: watch::Receiver<Arc<Destinations>>,
}

impl Sender {
    /// What holds for an event's receiver now, and where its requests go; none if that is not configured (any more).
    fn route(&self, event: &Event) -> Option<Route> {
        let destinations = self.destinations.borrow();
        let url = destinations.url(&event.destination)?.clone();
        Some(Route { url, destination: destinations.of(&event.host).clone() })
    }
}

/// Where one attempt goes, and what holds for it.
struct Route {
    url: Url,
    destination: Arc<Destination>,
}

/// Sends attempts until no more come, and all have ended.
pub async fn run(mut attempts: mpsc::Receiver<Attempt>, ended: mpsc::Sender<Ended>, sender: Sender) {
    let (running, mut destinations) = (TaskTracker::new(), sender.destinations.clone());
    loop {
        tokio::select! {
            attempt = attempts.recv() => {
                let Some(attempt) = attempt else { break };
                running.spawn(one(attempt, sender.clone(), ended.clone()));
            }
            Ok(()) = destinations.changed() => sender.clients.follow(&destinations.borrow_and_update()),
        }
    }
    running.close();
    running.wait().await;
}

async fn one(attempt: Attempt, sender: Sender, ended: mpsc::Sender<Ended>) {
    let Attempt { candidate, held } = attempt;
    let Some(route) = sender.route(&candidate.event) else {
        let outcome = Some(Outcome::NotSent(NotSent::NoDestination));
        let _ = ended.send(Ended { candidate, held, outcome, took: None }).await;
        return;
    };
    let (outcome, took) = match wait_for_cover(&held, route.destination.timeout).await {
        Cover::Until { begun, deadline } => {
            let method = &route.destination.request.method;
            let span = trace::attempt(&candidate.event, (&route.url, method), candidate.attempts);
            let traceparent = trace::traceparent(&span);
            let outcome = send(&sender, &route, &candidate, traceparent, deadline).await;
            let took = clock::now().saturating_sub(begun);
            trace::attempted(&span, &outcome);
            metrics::attempted(&candidate.event.host, &outcome, Some((method, took)));
            (Some(outcome), Some(took))
        }
        Cover::Lapsed => (Some(Outcome::NotSent(NotSent::NotAllowed)), None),
        // Another owner has taken over, and settles what was recorded here.
        Cover::Lost => (None, None),
    };
    let _ = ended.send(Ended { candidate, held, outcome, took }).await;
}

/// Whether an attempt may begin.
enum Cover {
    /// From now on; it has to be over by the deadline. Moments of the monotonic clock.
    Until {
        /// Now.
        begun: Duration,
        /// The end.
        deadline: Duration,
    },
    /// The leases ended and were taken again: this attempt's place at its host may be somebody else's by now.
    Lapsed,
    /// The lease is lost.
    Lost,
}

/// An attempt starts only if its deadline lies within the lease.
async fn wait_for_cover(held: &Held, timeout: Duration) -> Cover {
    let lapses = held.lapses();
    loop {
        let begun = clock::now();
        let deadline = begun + timeout;
        if held.covers(deadline) {
            return if held.lapses() == lapses { Cover::Until { begun, deadline } } else { Cover::Lapsed };
        }
        if held.is_lost() {
            return Cover::Lost;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Runs an attempt until its deadline. Looks at the clock before each step: after a pause of the whole process, what was
/// about to be sent is not sent any more.
async fn until<T>(deadline: Duration, attempt: impl Future<Output = T>) -> Option<T> {
    let attempt = async {
        let mut attempt = pin!(attempt);
        poll_fn(|context| {
            if may_send(clock::now(), deadline) { attempt.as_mut().poll(context).map(Some) } else { Poll::Ready(None) }
        })
        .await
    };
    tokio::time::timeout(deadline.saturating_sub(clock::now()), attempt).await.ok().flatten()
}

/// Sends an attempt until its deadline, and takes the answer.
///
/// A retry has a connection of its own: those that are kept may have died, all of them. A kept connection that the receiver
/// has closed meanwhile, and a request that it says it has not looked at, are no failure: it is sent once more, as the same
/// attempt, over a new connection.
async fn send(
    sender: &Sender,
    route: &Route,
    candidate: &Candidate,
    traceparent: Option<HeaderValue>,
    deadline: Duration,
) -> Outcome {
    let late = |phase| Outcome::NoResponse(NoResponse::Late(route.destination.timeout, phase));
    let pool = match sender.clients.of(&route.destination.transport) {
        Ok(pool) => pool,
        Err(error) => return short_of_something(sender, &error),
    };
    let way = match until(deadline, pool.way(&route.url)).await {
        Some(Ok(way)) => way,
        Some(Err(refused)) => return refused_by(sender, &refused),
        None => return late(Phase::Resolving),
    };
    let progress = || Progress::new(&route.url);
    let send = |client, progress: Arc<Progress>| {
        let request = request(route, candidate, (traceparent.clone(), deadline), progress.clone());
        let sending = async move |client| client::execute(&client, request, progress).await;
        until(deadline, sending(client))
    };
    let first = progress();
    let is_first = candidate.attempts <= 1;
    let client = if is_first { pool.kept(way) } else { pool.fresh(way) };
    let Some(mut response) = send(client, first.clone()).await else { return late(first.phase()) };
    if let Err(error) = &response {
        let again = match client::trouble(error) {
            Trouble::Closed => !first.has_connected(),
            Trouble::Refused => true,
            Trouble::Shortage | Trouble::Other => false,
        };
        if again {
            let second = progress();
            match send(pool.fresh(way), second.clone()).await {
                Some(answered) => response = answered,
                None => return late(second.phase()),
            }
        }
    }
    match response {
        Ok(response) => answer::answer(response, deadline).await,
        Err(error) => failed(sender, (&pool, way, route.destination.timeout), &error),
    }
}

/// What an error means.
fn failed(sender: &Sender, (pool, way, timeout): (&Pool, Way, Duration), error: &reqwest::Error) -> Outcome {
    let why = answer::explain(error, way, timeout);
    if client::trouble(error) == Trouble::Shortage {
        pool.close_idle();
        return short_of_something(sender, &why);
    }
    match client::cause(error) {
        Some(Refused::Forbidden(forbidden)) => Outcome::Forbidden(forbidden.clone()),
        _ => Outcome::NoResponse(why),
    }
}

/// What it means that a destination was refused before anything was sent.
fn refused_by(sender: &Sender, refused: &Refused) -> Outcome {
    match refused {
        Refused::Forbidden(forbidden) => Outcome::Forbidden(forbidden.clone()),
        Refused::Unresolved(Unresolved::Busy) => short_of_something(sender, refused),
        Refused::Unresolved(Unresolved::Failed(why)) => Outcome::NoResponse(NoResponse::Dns(format!(": {why}"))),
    }
}

fn short_of_something(sender: &Sender, why: &impl std::fmt::Display) -> Outcome {
    sender.clients.tell_shortage(why);
    Outcome::NotSent(NotSent::Shortage)
}

/// `traceparent` is that of the attempt's span, if the event's trace is sampled.
fn request(
    route: &Route,
    candidate: &Candidate,
    (traceparent, deadline): (Option<HeaderValue>, Duration),
    progress: Arc<Progress>,
) -> Request {
    let (event, settings) = (&candidate.event, &route.destination.request);
    let payload = Payload::new(event.body.clone(), deadline, progress);
    // Put together by hand: the builder would merge the headers into its own, one by one.
    let mut request = Request::new(settings.method.clone(), route.url.clone());
    *request.headers_mut() = headers(event, candidate.attempts, traceparent, settings);
    if let Some(credentials) = basic(request.url()) {
        request.headers_mut().entry(AUTHORIZATION).or_insert(credentials);
        // Both fail only for URLs without a host.
        let _ = request.url_mut().set_username("");
        let _ = request.url_mut().set_password(None);
    }
    *request.body_mut() = Some(reqwest::Body::wrap(payload));
    request
}

/// User and password of a URL, as RFC 7617 has them.
fn basic(url: &Url) -> Option<HeaderValue> {
    let decoded = |text| percent_decode_str(text).collect::<Vec<u8>>();
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let both = [&decoded(url.username())[..], b":", &decoded(url.password().unwrap_or_default())].concat();
    let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(both))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The request's headers. What the producer set comes first, and can't be what is set here: the contract forbids it.
///
/// Without a `traceparent` of the attempt, the producer's is passed on as it is.
#[must_use]
pub fn headers(event: &Event, attempt: u16, traceparent: Option<HeaderValue>, settings: &RequestSettings) -> HeaderMap {
    let mut headers = event.headers.clone();
    for (name, value) in &settings.headers {
        headers.insert(name, value.clone());
    }
    headers.reserve(OWN_HEADERS);
    if let Some(content_type) = &event.content_type {
        headers.insert(CONTENT_TYPE, content_type.clone());
    }
    if let Some(content_encoding) = &event.content_encoding {
        headers.insert(CONTENT_ENCODING, content_encoding.clone());
    }
    if event.body.is_empty() {
        // RFC 9110 §8.6: a POST without content says so. With content, the client sets the length.
        headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    }
    let key = text(event.key.as_str());
    headers.insert(IDEMPOTENCY_KEY, key.clone());
    headers.insert(WEBHOOK_ID, key);
    let timestamp = clock::unix_seconds();
    headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
    if let Some(signature) = settings.secrets.sign(&event.key, timestamp, &event.body) {
        headers.insert(WEBHOOK_SIGNATURE, signature);
    }
    headers.insert(ENTITY, text(&utf8_percent_encode(event.entity.as_str(), NOT_VISIBLE).to_string()));
    if let Some(sequence) = event.sequence {
        headers.insert(SEQUENCE, HeaderValue::from(sequence.0));
    }
    headers.insert(ATTEMPT, HeaderValue::from(attempt));
    let traceparent = traceparent.or_else(|| event.traceparent.clone());
    headers.insert(TRACEPARENT, traceparent.unwrap_or_else(|| trace_context::from_key(&event.key)));
    if let Some(tracestate) = &event.tracestate {
        headers.insert(TRACESTATE, tracestate.clone());
    }
    headers
}

/// A header value of visible ASCII: keys are that by contract, entities by encoding.
fn text(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}
