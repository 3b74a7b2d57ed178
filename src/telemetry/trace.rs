//! Traces: the spans of an event's life.
//!
//! ```text
//! send events (the producer's)
//!  └─ process events         CONSUMER  from the message to its acknowledgement
//!      ├─ POST               CLIENT    each attempt, by whichever worker; the receiver's spans are below it
//!      ├─ wait for retry     INTERNAL  between two attempts
//!      └─ send events.dead-letter  PRODUCER
//! ```
//! The context of `process events` is kept with the event, so that another worker goes on in the same trace. Attributes
//! follow OpenTelemetry's semantic conventions 1.37 for messaging (`RabbitMQ`) and HTTP clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{Span as _, SpanBuilder, SpanKind, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, global};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing::field::Empty;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use url::Url;

use crate::domain::contract::{Field, Message};
use crate::domain::event::{Event, Partition};
use crate::domain::redact;
use crate::domain::trace_context;
use crate::domain::verdict::Outcome;

/// Spans of this target become part of traces, and are no lines of the log.
pub const TARGET: &str = "onceward::trace";

static ON: AtomicBool = AtomicBool::new(false);
static FOLLOWS_PARENT: AtomicBool = AtomicBool::new(true);

/// There is a collector. Until then, no span costs anything.
pub(super) fn switch_on(follows_parent: bool) {
    FOLLOWS_PARENT.store(follows_parent, Ordering::Relaxed);
    ON.store(true, Ordering::Relaxed);
}

/// Whether there is a collector.
#[must_use]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// A broker and its exchange, as spans name them.
#[derive(Clone, Debug)]
pub struct Broker(Arc<BrokerNames>);

#[derive(Debug)]
struct BrokerNames {
    exchange: String,
    address: String,
    port: u16,
}

impl Broker {
    /// `url` is an AMQP URL; of it, only host and port are kept.
    #[must_use]
    pub fn new(url: &str, exchange: &str) -> Self {
        let url = url::Url::parse(url).ok();
        let address = url.as_ref().and_then(url::Url::host_str).unwrap_or_default().to_owned();
        let default = if url.as_ref().is_some_and(|url| url.scheme() == "amqps") { 5_671 } else { 5_672 };
        let port = url.as_ref().and_then(url::Url::port).unwrap_or(default);
        Self(Arc::new(BrokerNames { exchange: exchange.into(), address, port }))
    }
}

/// A message is ingested, until its span is dropped.
#[must_use]
pub fn process(broker: &Broker, partition: Partition, message: &Message) -> Span {
    if !is_on() {
        return Span::none();
    }
    let parent = parent_of(message);
    let unsampled = parent.0.is_some_and(|traceparent| !trace_context::is_sampled(traceparent));
    if unsampled && FOLLOWS_PARENT.load(Ordering::Relaxed) {
        return Span::none();
    }
    let BrokerNames { exchange, address, port } = &*broker.0;
    let span = tracing::info_span!(
        target: TARGET,
        parent: None,
        "process",
        otel.name = format!("process {exchange}"),
        otel.kind = "consumer",
        otel.status_code = Empty,
        messaging.system = "rabbitmq",
        messaging.operation.name = "process",
        "messaging.operation.type" = "process",
        messaging.destination.name = format!("{exchange}:{}:{exchange}.partition.{partition}", message.routing_key),
        messaging.destination.template = exchange,
        messaging.destination.partition.id = partition.to_string(),
        messaging.rabbitmq.destination.routing_key = message.routing_key,
        messaging.message.id = message.message_id,
        messaging.message.body.size = message.body.len(),
        server.address = address,
        server.port = port,
        "error.type" = Empty,
    );
    let extracted = TraceContextPropagator::new().extract_with_context(&Context::new(), &Carrier::of(parent));
    // Fails only if the span is not recorded at all.
    let _ = span.set_parent(extracted);
    span
}

/// The message breaks the contract: a short code says how.
pub fn poisoned(span: &Span, code: &str) {
    span.record("error.type", code);
    span.record("otel.status_code", "ERROR");
}

/// The `traceparent` that leads to a span, if it is sampled.
#[must_use]
pub fn traceparent(span: &Span) -> Option<HeaderValue> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    context.span().span_context().is_sampled().then(|| {
        let mut carrier = Carrier::default();
        TraceContextPropagator::new().inject_context(&context, &mut carrier);
        carrier.traceparent.and_then(|text| HeaderValue::from_str(&text).ok())
    })?
}

/// An attempt of this number begins, which may be a probe of its host, and ends when its span is dropped.
#[must_use]
pub fn attempt(event: &Event, (url, method): (&Url, &Method), (number, probes): (u16, bool)) -> Span {
    let Some(parent) = event.trace.as_ref().filter(|_| is_on()) else { return Span::none() };
    let method = method.as_str();
    let resends = (number > 1).then(|| number - 1);
    let span = tracing::info_span!(
        target: TARGET,
        parent: None,
        "request",
        otel.name = method,
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = method,
        http.request.resend_count = resends,
        http.response.status_code = Empty,
        url.full = redact::url(url),
        server.address = url.host_str(),
        server.port = url.port_or_known_default(),
        messaging.message.id = event.key.as_str(),
        onceward.attempt = number,
        onceward.probe = probes.then_some(true),
        "error.type" = Empty,
    );
    let _ = span.set_parent(below(parent, event.tracestate.as_ref()));
    span
}

/// What came of an attempt.
pub fn attempted(span: &Span, outcome: &Outcome, succeeded: bool) {
    if let Outcome::Response { status, .. } = outcome {
        span.record("http.response.status_code", status);
    }
    if let Some(kind) = error_type(outcome, succeeded) {
        span.record("error.type", kind.as_str());
        span.record("otel.status_code", "ERROR");
    }
}

/// Low in cardinality, as the conventions ask: the status, or what kind of silence it was. What the destination's settings take
/// for success is no error.
pub(super) fn error_type(outcome: &Outcome, succeeded: bool) -> Option<String> {
    match outcome {
        _ if succeeded => None,
        Outcome::Response { status, .. } => Some(status.to_string()),
        Outcome::NoResponse(why) => Some(why.code().into()),
        Outcome::Unknown => Some("unknown".into()),
        Outcome::NotSent(_) => Some("not_sent".into()),
        Outcome::Forbidden(_) => Some("forbidden_destination".into()),
    }
}

/// An event has waited for so long, and its next attempt begins: a span that ends now.
pub fn waited(event: &Event, attempts: u16, time: Duration, now: SystemTime) {
    let Some(parent) = event.trace.as_ref().filter(|_| is_on()) else { return };
    let builder = SpanBuilder::from_name("wait for retry")
        .with_kind(SpanKind::Internal)
        .with_start_time(now.checked_sub(time).unwrap_or(now))
        .with_attributes([
            KeyValue::new("messaging.message.id", event.key.to_string()),
            KeyValue::new("onceward.attempts", i64::from(attempts)),
        ]);
    let mut span = global::tracer("onceward").build_with_context(builder, &below(parent, event.tracestate.as_ref()));
    span.end_with_timestamp(now);
}

/// Transactions with the database that took this long are shown in traces; metrics have them all.
const SLOW: Duration = Duration::from_millis(100);

/// A transaction with the database has ended. A slow one is a span that ends now, in a trace of its own: it is for many
/// events, or for none.
pub fn transacted(name: &'static str, outcome: &'static str, took: Duration, now: SystemTime) {
    if took < SLOW || !is_on() {
        return;
    }
    let builder = SpanBuilder::from_name(name)
        .with_kind(SpanKind::Client)
        .with_start_time(now.checked_sub(took).unwrap_or(now))
        .with_attributes([
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("onceward.transaction", name),
            KeyValue::new("onceward.outcome", outcome),
        ]);
    global::tracer("onceward").build_with_context(builder, &Context::new()).end_with_timestamp(now);
}

/// A dead letter goes to its exchange, until the span is dropped. `trace` leads to the span of the message.
#[must_use]
pub fn dead_letter(
    exchange: &str,
    routing_key: &str,
    message_id: Option<&str>,
    reason: &str,
    trace: Option<&HeaderValue>,
) -> Span {
    let Some(parent) = trace.filter(|_| is_on()) else { return Span::none() };
    let span = sending(exchange, routing_key, message_id);
    span.record("onceward.reason", reason);
    let _ = span.set_parent(below(parent, None));
    span
}

/// A producer's message goes to an exchange: the root of its trace.
#[must_use]
pub fn publish(exchange: &str, routing_key: &str, message_id: &str) -> Span {
    if is_on() { sending(exchange, routing_key, Some(message_id)) } else { Span::none() }
}

fn sending(exchange: &str, routing_key: &str, message_id: Option<&str>) -> Span {
    tracing::info_span!(
        target: TARGET,
        parent: None,
        "send",
        otel.name = format!("send {exchange}"),
        otel.kind = "producer",
        otel.status_code = Empty,
        messaging.system = "rabbitmq",
        messaging.operation.name = "send",
        "messaging.operation.type" = "send",
        messaging.destination.name = format!("{exchange}:{routing_key}"),
        messaging.destination.template = exchange,
        messaging.rabbitmq.destination.routing_key = routing_key,
        messaging.message.id = message_id,
        onceward.reason = Empty,
        "error.type" = Empty,
    )
}

/// The trace of a `traceparent`, for the log.
#[must_use]
pub fn trace_id(traceparent: &HeaderValue) -> &str {
    traceparent.to_str().map(trace_context::trace_id).unwrap_or_default()
}

/// Below the span that `traceparent` leads to.
fn below(traceparent: &HeaderValue, tracestate: Option<&HeaderValue>) -> Context {
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    let carrier = Carrier { traceparent: text(traceparent), tracestate: tracestate.and_then(text) };
    TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier)
}

/// The producer's context, as far as it is valid.
fn parent_of(message: &Message) -> (Option<&str>, Option<&str>) {
    let header = |wanted: &str| {
        message.headers.iter().find_map(|(name, field)| match field {
            Field::Text(text) if name == wanted => Some(text.as_str()),
            _ => None,
        })
    };
    (header("traceparent").filter(|text| trace_context::is_valid(text)), header("tracestate"))
}

/// The two headers of W3C Trace Context.
#[derive(Default)]
struct Carrier {
    traceparent: Option<String>,
    tracestate: Option<String>,
}

impl Carrier {
    fn of((traceparent, tracestate): (Option<&str>, Option<&str>)) -> Self {
        Self { traceparent: traceparent.map(str::to_owned), tracestate: tracestate.map(str::to_owned) }
    }
}

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => self.traceparent.as_deref(),
            "tracestate" => self.tracestate.as_deref(),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate"]
    }
}

impl Injector for Carrier {
    fn set(&mut self, key: &str, value: String) {
        match key {
            "traceparent" => self.traceparent = Some(value),
            "tracestate" => self.tracestate = Some(value).filter(|text| !text.is_empty()),
            _ => {}
        }
    }
}
