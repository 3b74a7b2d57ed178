//! One attempt is one HTTP request.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::{Request, redirect};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::domain::event::Event;
use crate::domain::lanes::Candidate;
use crate::domain::lease::may_send;
use crate::domain::signature::SigningSecrets;
use crate::domain::trace_context;
use crate::domain::verdict::Outcome;
use crate::handoff::{Attempt, Ended};
use crate::store::lease::Held;
use crate::telemetry::{metrics, trace};

/// The most of an answer's body that is read, so that its connection can be used again; more closes the connection.
const ANSWER_LIMIT: usize = 64 * 1024;
/// The most of an answer's body that is kept for the history.
const EXCERPT_LIMIT: usize = 512;
/// Connections to a host that nothing uses are closed after this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

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
const OWN_HEADERS: usize = 13;

/// Bytes of an entity that are percent-encoded (RFC 3986) in its header: all that is not visible ASCII, and `%`.
const NOT_VISIBLE: &AsciiSet = &CONTROLS.add(b' ').add(b'%');

/// What all attempts are sent by.
#[derive(Clone)]
pub struct Sender {
    /// See [`client`].
    pub client: reqwest::Client,
    /// For one attempt in all.
    pub timeout: Duration,
    /// What requests are signed with.
    pub secrets: Arc<SigningSecrets>,
}

/// Sends attempts until no more come, and all have ended.
pub async fn run(mut attempts: mpsc::Receiver<Attempt>, ended: mpsc::Sender<Ended>, sender: Sender) {
    let running = TaskTracker::new();
    while let Some(attempt) = attempts.recv().await {
        running.spawn(one(attempt, sender.clone(), ended.clone()));
    }
    running.close();
    running.wait().await;
}

async fn one(attempt: Attempt, sender: Sender, ended: mpsc::Sender<Ended>) {
    let Attempt { candidate, held, permit } = attempt;
    let timeout = sender.timeout;
    let (outcome, took) = match wait_for_cover(&held, timeout).await {
        Cover::Until { begun, deadline } => {
            let span = trace::attempt(&candidate.event, candidate.attempts);
            let traceparent = trace::traceparent(&span);
            let outcome = until(deadline, send(&sender, &candidate, traceparent, deadline)).await;
            let late = || Outcome::NoResponse(format!("no answer within {}", humantime::format_duration(timeout)));
            let (outcome, took) = (outcome.unwrap_or_else(late), clock::now().saturating_sub(begun));
            trace::attempted(&span, &outcome);
            metrics::attempted(&candidate.event.host, &outcome, Some(took));
            (outcome, Some(took))
        }
        Cover::Lapsed => (Outcome::NotSent, None),
        // Another owner has taken over, and settles what was recorded here.
        Cover::Lost => return,
    };
    permit.end(took);
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
    /// The leases ended and were taken again: this attempt's permit may be somebody else's by now.
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

/// The bytes of a body that are handed to the connection at a time.
const PIECE: usize = 64 * 1024;

/// An event's body, that goes out only before the attempt's deadline.
///
/// The HTTP client hands requests to a task of their connection, which may run much later if the process is paused in
/// between. It asks for the body right before it writes, and an error then closes the connection with nothing written. A body
/// of several pieces is asked for again and again, and one that was cut in the middle is no request: the receiver has been
/// told of more bytes than come.
///
/// What this can't reach: bytes that the connection's task has taken and not written yet (one piece, as a rule; with HTTP/1 a
/// few, if the receiver reads slowly), or that the system has taken and the network has not; and with HTTP/1 a request without
/// a body, between the look at the clock in `until` and the task's turn.
struct Payload {
    /// What is left of it.
    body: Bytes,
    /// An empty body has been asked for.
    ended: bool,
    deadline: Duration,
}

impl Payload {
    fn new(body: Bytes, deadline: Duration) -> Self {
        Self { body, ended: false, deadline }
    }
}

impl http_body::Body for Payload {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, std::io::Error>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if !may_send(clock::now(), self.deadline) {
            return Poll::Ready(Some(Err(std::io::Error::other("the attempt's time is over"))));
        }
        let length = self.body.len().min(PIECE);
        let piece = self.body.split_to(length);
        self.ended = self.body.is_empty();
        Poll::Ready(Some(Ok(http_body::Frame::data(piece))))
    }

    /// Never at first, also without content: HTTP/2 then asks for the end of the request as for a body.
    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.body.len() as u64)
    }
}

/// The client for all attempts: no redirects, no cookies, no retries of its own.
///
/// # Errors
/// reqwest's, if TLS can't be set up.
pub fn client(per_host: usize, timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .user_agent(concat!("onceward/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(timeout)
        .pool_max_idle_per_host(per_host)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .tcp_nodelay(true)
        .build()
}

/// `traceparent` is that of the attempt's span, if the event's trace is sampled.
async fn send(sender: &Sender, candidate: &Candidate, traceparent: Option<HeaderValue>, deadline: Duration) -> Outcome {
    let event = &candidate.event;
    let payload = Payload::new(event.body.clone(), deadline);
    // Put together by hand: the builder would merge the headers into its own, one by one.
    let mut request = Request::new(Method::POST, event.destination.clone());
    *request.headers_mut() = headers(event, candidate.attempts, traceparent, &sender.secrets);
    *request.body_mut() = Some(reqwest::Body::wrap(payload));
    match sender.client.execute(request).await {
        Ok(response) => answer(response, deadline).await,
        Err(error) => Outcome::NoResponse(explain(&error)),
    }
}

/// The request's headers. What the producer set comes first, and can't be what is set here: the contract forbids it.
///
/// Without a `traceparent` of the attempt, the producer's is passed on as it is.
#[must_use]
pub fn headers(event: &Event, attempt: u16, traceparent: Option<HeaderValue>, secrets: &SigningSecrets) -> HeaderMap {
    let mut headers = event.headers.clone();
    headers.reserve(OWN_HEADERS);
    if let Some(content_type) = &event.content_type {
        headers.insert(CONTENT_TYPE, content_type.clone());
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
    if let Some(signature) = secrets.sign(&event.key, timestamp, &event.body) {
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

/// The status decides; the body is read only to use the connection again, and for the history.
async fn answer(mut response: reqwest::Response, deadline: Duration) -> Outcome {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(retry_after);
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut excerpt = Vec::new();
    let mut read = 0;
    let left = deadline.saturating_sub(clock::now());
    let _ = tokio::time::timeout(left, async {
        while let Ok(Some(chunk)) = response.chunk().await {
            read += chunk.len();
            let room = EXCERPT_LIMIT.saturating_sub(excerpt.len());
            excerpt.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if read > ANSWER_LIMIT {
                break;
            }
        }
    })
    .await;
    let excerpt = match location {
        Some(location) if (300..400).contains(&status) => format!("redirect to {location}, not followed"),
        _ => String::from_utf8_lossy(&excerpt).into_owned(),
    };
    Outcome::Response { status, retry_after, excerpt }
}

/// RFC 9110 §10.2.3: a number of seconds, or a date.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let until = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(until.saturating_sub(Duration::from_secs(clock::unix_seconds())))
}

/// The error with its causes, without the URL, which may hold a password.
fn explain(error: &reqwest::Error) -> String {
    let mut text = if error.is_connect() { "no connection".to_owned() } else { "no answer".to_owned() };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
