//! A collector of traces, as OpenTelemetry's protocol (OTLP) has it, over HTTP and gRPC.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span as WireSpan;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_stream::wrappers::TcpListenerStream;

use super::within;

/// A span, as far as tests look at it.
#[derive(Clone, Debug)]
pub struct Span {
    pub trace: String,
    pub id: String,
    /// Empty for a root.
    pub parent: String,
    pub name: String,
    pub kind: SpanKind,
    pub failed: bool,
    pub nanos: (u64, u64),
    pub attributes: BTreeMap<String, String>,
    /// Of the process that it comes from.
    pub resource: BTreeMap<String, String>,
}

impl Span {
    /// An attribute, which has to be there.
    pub fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).unwrap_or_else(|| panic!("{name} is missing: {self:#?}"))
    }
}

#[derive(Default)]
struct Received {
    spans: Vec<Span>,
    /// Names of metrics.
    metrics: Vec<String>,
}

/// The server.
pub struct Collector {
    received: Arc<watch::Sender<Received>>,
    endpoint: String,
    protocol: &'static str,
}

impl Collector {
    /// By OTLP over HTTP.
    pub async fn over_http() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let endpoint = format!("http://{}", listener.local_addr().expect("a bound port"));
        let received = Arc::new(watch::Sender::default());
        let router = Router::new()
            .route("/v1/traces", post(take_traces))
            .route("/v1/metrics", post(take_metrics))
            .with_state(Arc::clone(&received));
        tokio::spawn(async move { axum::serve(listener, router).await.expect("the collector serves") });
        Self { received, endpoint, protocol: "http/protobuf" }
    }

    /// By OTLP over gRPC; traces only.
    pub async fn over_grpc() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let endpoint = format!("http://{}", listener.local_addr().expect("a bound port"));
        let received: Arc<watch::Sender<Received>> = Arc::default();
        let service = TraceServiceServer::new(Grpc(Arc::clone(&received)));
        let server = tonic::transport::Server::builder().add_service(service);
        let serving = server.serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(async move { serving.await.expect("the collector serves") });
        Self { received, endpoint, protocol: "grpc" }
    }

    /// What a program has to be told to send its traces here.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("OTEL_EXPORTER_OTLP_ENDPOINT", self.endpoint.clone()),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", self.protocol.into()),
            ("OTEL_BSP_SCHEDULE_DELAY", "100".into()),
        ]
    }

    pub fn spans(&self) -> Vec<Span> {
        self.received.borrow().spans.clone()
    }

    /// Waits until the spans are as the test wants them.
    pub async fn wait_for(&self, time: Duration, what: &str, wanted: impl Fn(&[Span]) -> bool) {
        let mut received = self.received.subscribe();
        let seen = received.wait_for(|received| wanted(&received.spans));
        within(time, what, seen).await.expect("the sender lives in self");
    }

    /// Waits for a metric of this name.
    pub async fn wait_for_metric(&self, time: Duration, name: &str) {
        let mut received = self.received.subscribe();
        let seen = received.wait_for(|received| received.metrics.iter().any(|metric| metric == name));
        within(time, name, seen).await.expect("the sender lives in self");
    }
}

async fn take_traces(State(received): State<Arc<watch::Sender<Received>>>, body: Bytes) {
    take(&received, ExportTraceServiceRequest::decode(body).expect("OTLP"));
}

async fn take_metrics(State(received): State<Arc<watch::Sender<Received>>>, body: Bytes) {
    let request = ExportMetricsServiceRequest::decode(body).expect("OTLP");
    let scopes = request.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
    let names = scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name);
    received.send_modify(|received| received.metrics.extend(names));
}

struct Grpc(Arc<watch::Sender<Received>>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        take(&self.0, request.into_inner());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

fn take(received: &watch::Sender<Received>, request: ExportTraceServiceRequest) {
    for spans in request.resource_spans {
        let resource = attributes(spans.resource.unwrap_or_default().attributes);
        let all = spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
        let all: Vec<Span> = all.map(|span| read(span, &resource)).collect();
        received.send_modify(|received| received.spans.extend(all));
    }
}

fn read(span: WireSpan, resource: &BTreeMap<String, String>) -> Span {
    Span {
        kind: span.kind(),
        failed: span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error),
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name,
        nanos: (span.start_time_unix_nano, span.end_time_unix_nano),
        attributes: attributes(span.attributes),
        resource: resource.clone(),
    }
}

fn attributes(pairs: Vec<KeyValue>) -> BTreeMap<String, String> {
    pairs.into_iter().map(|pair| (pair.key, pair.value.map(show).unwrap_or_default())).collect()
}

fn show(value: AnyValue) -> String {
    match value.value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
