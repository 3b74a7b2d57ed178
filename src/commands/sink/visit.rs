//! One request: counted when it comes, answered as planned, shown when it is over, also when the client leaves early.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use super::plan::Plan;
use super::seen::{REMEMBERED, Seen};
use super::show::{KEPT, Row, Show, time_of_day};

/// What the requests share.
pub(super) struct Sink {
    plan: Plan,
    quiet: bool,
    stop: CancellationToken,
    pub(super) show: Show,
    state: Mutex<Counts>,
}

struct Counts {
    seen: Seen,
    received: u64,
    succeeded: u64,
    failed: u64,
    left: u64,
    again: u64,
    now: u32,
    most: u32,
}

impl Sink {
    pub(super) fn new(plan: Plan, quiet: bool, stop: CancellationToken) -> Self {
        let seen = Seen::new(REMEMBERED);
        let counts = Counts { seen, received: 0, succeeded: 0, failed: 0, left: 0, again: 0, now: 0, most: 0 };
        Self { plan, quiet, show: Show::new(stop.clone()), stop, state: Mutex::new(counts) }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All counts in one line. "again after 2xx" is what must not happen: the same event executed twice.
    pub(super) fn totals(&self) -> String {
        let counts = self.counts();
        let (keys, exact) = counts.seen.distinct();
        let about = if exact { "" } else { "about " };
        format!(
            "received {}, keys {about}{keys}, 2xx {}, failed {}, client left {}, again after 2xx {}, at once {} (most {})",
            counts.received, counts.succeeded, counts.failed, counts.left, counts.again, counts.now, counts.most
        )
    }

    /// Shows the counts, each second in which they have changed.
    pub(super) async fn count_every_second(self: Arc<Self>) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        let mut shown = self.totals();
        loop {
            second.tick().await;
            let totals = self.totals();
            if totals != shown {
                self.show.line(&format!("{}  {totals}", time_of_day(crate::clock::time_of_day())));
                shown = totals;
            }
        }
    }
}

struct Visit {
    sink: Arc<Sink>,
    time: SystemTime,
    entity: String,
    sequence: String,
    key: String,
    attempt: u32,
    arrival: u32,
    again: bool,
    body: Vec<u8>,
    status: Option<StatusCode>,
}

/// Receives a request, of any method, on any path, with a body of any size, of which only the beginning is kept.
pub(super) async fn receive(State(sink): State<Arc<Sink>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut visit = Visit::arrive(Arc::clone(&sink), &parts.headers);
    let mut pieces = body.into_data_stream();
    while let Some(Ok(piece)) = pieces.next().await {
        let room = KEPT - visit.body.len();
        visit.body.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    let decision = sink.plan.decide(&visit.key, visit.attempt, visit.arrival);
    tokio::time::sleep(decision.delay).await;
    let Some(status) = decision.status else {
        sink.stop.cancelled().await;
        // The server waits for every request before it ends, so this one has to end somehow.
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    visit.answer(status);
    let text = if status.is_success() { "ok\n" } else { "failed, as it was asked to\n" };
    (status, text).into_response()
}

impl Visit {
    fn arrive(sink: Arc<Sink>, headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let key = text("idempotency-key");
        let named = key.is_some();
        let key = key.unwrap_or_else(|| "-".into());
        let (arrival, again) = {
            let mut counts = sink.counts();
            counts.received += 1;
            counts.now += 1;
            counts.most = counts.most.max(counts.now);
            let (arrival, again) = counts.seen.arrive(&key);
            // Requests without a key have nothing in common.
            let again = again && named;
            counts.again += u64::from(again);
            (arrival, again)
        };
        Self {
            sink,
            time: crate::clock::time_of_day(),
            entity: text("onceward-entity").unwrap_or_else(|| "-".into()),
            sequence: text("onceward-sequence").unwrap_or_default(),
            key,
            // Another sender than Onceward may not number its attempts.
            attempt: text("onceward-attempt").and_then(|number| number.parse().ok()).unwrap_or(arrival),
            arrival,
            again,
            body: Vec::new(),
            status: None,
        }
    }

    fn answer(&mut self, status: StatusCode) {
        self.status = Some(status);
        let mut counts = self.sink.counts();
        if status.is_success() {
            counts.succeeded += 1;
            counts.seen.succeed(&self.key);
        } else {
            counts.failed += 1;
        }
    }

    fn render(&self) -> String {
        let mut answer = self.status.map_or("left".into(), |status| status.as_u16().to_string());
        if self.again {
            answer.push_str(" again");
        }
        Row {
            time: self.time,
            entity: &self.entity,
            sequence: &self.sequence,
            key: &self.key,
            attempt: self.attempt,
            answer: &answer,
            body: &self.body,
        }
        .render()
    }
}

/// A client that leaves takes the request's future with it, and this is all that still runs.
impl Drop for Visit {
    fn drop(&mut self) {
        {
            let mut counts = self.sink.counts();
            counts.now -= 1;
            counts.left += u64::from(self.status.is_none());
        }
        if !self.sink.quiet {
            self.sink.show.line(&self.render());
        }
    }
}
