//! Metrics: what is counted and measured, under which names, in which units.
//!
//! Names follow OpenTelemetry's semantic conventions where these have one (`http.client.request.duration`). No attribute is
//! an entity or an event; hosts are named up to a bound. Prometheus sees the same with `_` for `.`, and units and `_total`
//! at the end.

mod gates;
mod gauges;

use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use http::Method;
use opentelemetry::metrics::{AsyncInstrument, Counter, Histogram, Meter};
use opentelemetry::{KeyValue, global};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder as _, Registry, TextEncoder};

pub use self::gates::gates;
pub use self::gauges::{Backlog, Connections, HostLoad, Ownership, destinations_refused, watch};
use super::{Teller, collector, hosts, logs, trace};
use crate::domain::event::Host;
use crate::domain::poison::Poison;
use crate::domain::verdict::{Failure, NotSent, Outcome};

/// Of what takes milliseconds to minutes, in seconds.
const SECONDS: [f64; 15] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0];
/// Of what one transaction takes.
const SIZES: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0];

static REGISTRY: OnceLock<Registry> = OnceLock::new();
static METRICS: LazyLock<Metrics> = LazyLock::new(|| Metrics::new(&meter()));

fn meter() -> Meter {
    global::meter("onceward")
}

/// A gauge of what can be counted.
fn count(
    meter: &Meter,
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    read: impl Fn(&dyn AsyncInstrument<u64>) + Send + Sync + 'static,
) {
    // The provider keeps what is built; the handle itself is of no use.
    let _ = meter.u64_observable_gauge(name).with_unit(unit).with_description(help).with_callback(read).build();
}

/// Starts to measure.
pub(super) fn provider(teller: &Teller) -> Result<SdkMeterProvider, String> {
    let registry = Registry::new();
    let scraped =
        opentelemetry_prometheus::exporter().with_registry(registry.clone()).scope_info_enabled(false).build();
    let scraped = scraped.map_err(|error| format!("metrics can't be set up: {error}"))?;
    let mut provider = SdkMeterProvider::builder().with_reader(scraped).with_resource(collector::resource(teller));
    if let Some(pushed) = collector::metrics()? {
        provider = provider.with_periodic_exporter(pushed);
    }
    let provider = provider.build();
    global::set_meter_provider(provider.clone());
    METRICS.show_zeros();
    count_lost_lines();
    // Two providers in one process would be a mistake of this program; the first one stays.
    let _ = REGISTRY.set(registry);
    Ok(provider)
}

/// Counted where the lines are: to count by an instrument may itself be worth a line of the log.
fn count_lost_lines() {
    // The provider keeps what is built; the handle itself is of no use.
    let _ = meter()
        .u64_observable_counter("onceward.log.line.dropped")
        .with_unit("{line}")
        .with_description("Lines of the log that nobody read in time, or that could not be written.")
        .with_callback(|observer| observer.observe(logs::dropped(), &[]))
        .build();
}

/// All metrics in Prometheus' text format, and its content type.
#[must_use]
pub fn text() -> (String, String) {
    let encoder = TextEncoder::new();
    let families = REGISTRY.get().map(Registry::gather).unwrap_or_default();
    let mut text = Vec::new();
    if let Err(error) = encoder.encode(&families, &mut text) {
        tracing::warn!(%error, "metrics could not be written");
    }
    (String::from_utf8_lossy(&text).into_owned(), encoder.format_type().to_owned())
}

struct Metrics {
    received: Counter<u64>,
    duplicates: Counter<u64>,
    delivered: Counter<u64>,
    retried: Counter<u64>,
    dead_lettered: Counter<u64>,
    rescued: Counter<u64>,
    attempts: Counter<u64>,
    delivery: Histogram<f64>,
    request: Histogram<f64>,
    lateness: Histogram<f64>,
    commit: Histogram<f64>,
    commit_size: Histogram<u64>,
    transaction: Histogram<f64>,
}

impl Metrics {
    fn new(meter: &Meter) -> Self {
        let count = |name: &'static str, unit: &'static str, help: &'static str| {
            meter.u64_counter(name).with_unit(unit).with_description(help).build()
        };
        let seconds = |name: &'static str, help: &'static str| {
            let boundaries = SECONDS.to_vec();
            meter.f64_histogram(name).with_unit("s").with_description(help).with_boundaries(boundaries).build()
        };
        Self {
            received: count("onceward.event.received", "{event}", "Messages taken from the broker."),
            duplicates: count("onceward.event.duplicates", "{event}", "Messages whose key was recorded already."),
            delivered: count("onceward.event.delivered", "{event}", "Events that became DELIVERED."),
            retried: count("onceward.event.retried", "{event}", "Failed attempts after which another one follows."),
            dead_lettered: count(
                "onceward.event.dead_lettered",
                "{event}",
                "Messages in the dead-letter exchange, by reason.",
            ),
            rescued: count(
                "onceward.event.rescued",
                "{event}",
                "Open events that nobody had in hand, by what they were: the database has lost commits, or this program is wrong.",
            ),
            attempts: count("onceward.attempt", "{attempt}", "Attempts that have ended, by outcome."),
            delivery: seconds("onceward.delivery.duration", "From taking an event in to the record of its 2xx."),
            request: seconds("http.client.request.duration", "Duration of HTTP client requests: one attempt."),
            lateness: seconds("onceward.retry.lateness", "From the time of a retry to its turn."),
            commit: seconds("onceward.commit.duration", "One transaction of the writer."),
            commit_size: meter
                .u64_histogram("onceward.commit.size")
                .with_unit("{command}")
                .with_description("Commands in one transaction of the writer.")
                .with_boundaries(SIZES.to_vec())
                .build(),
            transaction: seconds(
                "onceward.database.transaction.duration",
                "One transaction with the database, by its name and how it ended.",
            ),
        }
    }
}

impl Metrics {
    /// Counters are seen before they count: the first event would not show as an increase.
    fn show_zeros(&self) {
        for counter in [&self.received, &self.duplicates, &self.delivered, &self.retried] {
            counter.add(0, &[]);
        }
        for reason in Failure::CODES.into_iter().chain(Poison::CODES) {
            self.dead_lettered.add(0, &[KeyValue::new("onceward.reason", reason)]);
        }
        for kind in ["in_flight", "ready", "orphan"] {
            self.rescued.add(0, &[KeyValue::new("onceward.kind", kind)]);
        }
    }
}

/// Messages were ingested, of which so many are recorded already.
pub fn received(all: usize, duplicates: usize) {
    METRICS.received.add(all as u64, &[]);
    if duplicates > 0 {
        METRICS.duplicates.add(duplicates as u64, &[]);
    }
}

/// An event became DELIVERED, so long after it was ingested.
pub fn delivered(after: Duration) {
    METRICS.delivered.add(1, &[]);
    METRICS.delivery.record(after.as_secs_f64(), &[]);
}

/// An attempt failed, and another one follows.
pub fn retried() {
    METRICS.retried.add(1, &[]);
}

/// A message is in the dead-letter exchange. `reason` is one of a few codes.
pub fn dead_lettered(reason: &str) {
    METRICS.dead_lettered.add(1, &[KeyValue::new("onceward.reason", reason.to_owned())]);
}

/// An open event was found that nobody had in hand: `in_flight`, `ready`, or `orphan`.
pub fn rescued(kind: &'static str) {
    METRICS.rescued.add(1, &[KeyValue::new("onceward.kind", kind)]);
}

/// An attempt has ended, and `succeeded` by its destination's settings or did not; `request` is its method and how long it took,
/// none if nobody knows.
pub fn attempted(host: &Host, (outcome, succeeded): (&Outcome, bool), request: Option<(&Method, Duration)>) {
    let code = match outcome {
        _ if succeeded => "success",
        Outcome::Response { .. } => "status",
        Outcome::NoResponse(_) => "no_response",
        Outcome::Unknown => "unknown",
        Outcome::NotSent(NotSent::NotAllowed) => "not_sent",
        Outcome::NotSent(NotSent::Shortage(_)) => "shortage",
        Outcome::NotSent(NotSent::NoDestination) => "no_destination",
        Outcome::NotSent(NotSent::NoToken(_)) => "no_token",
        Outcome::NotSent(NotSent::GateShut) => "gate_shut",
        Outcome::Forbidden(_) => "forbidden",
    };
    METRICS.attempts.add(1, &[KeyValue::new("onceward.outcome", code)]);
    let Some((method, took)) = request else { return };
    let [address, port] = hosts::labels(host);
    let mut attributes = Vec::with_capacity(5);
    attributes.extend([KeyValue::new("http.request.method", method.to_string()), address, port]);
    if let Outcome::Response { status, .. } = outcome {
        attributes.push(KeyValue::new("http.response.status_code", i64::from(*status)));
    }
    if let Some(kind) = trace::error_type(outcome, succeeded) {
        attributes.push(KeyValue::new("error.type", kind));
    }
    METRICS.request.record(took.as_secs_f64(), &attributes);
}

/// A retry's turn came so long after its time.
pub fn retry_late(by: Duration) {
    METRICS.lateness.record(by.as_secs_f64(), &[]);
}

/// The writer has committed so many commands.
pub fn committed(commands: usize, took: Duration) {
    METRICS.commit.record(took.as_secs_f64(), &[]);
    METRICS.commit_size.record(commands as u64, &[]);
}

/// A transaction has ended: `ok`, `error`, or `cancelled` if nobody waits for it any more. `name` is one of
/// a few.
pub(super) fn transacted(name: &'static str, outcome: &'static str, took: Duration) {
    let attributes = [KeyValue::new("onceward.transaction", name), KeyValue::new("onceward.outcome", outcome)];
    METRICS.transaction.record(took.as_secs_f64(), &attributes);
}
