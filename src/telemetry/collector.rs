//! The way to an OpenTelemetry collector (or Jaeger) by OTLP.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::metrics::Temporality;
use opentelemetry_sdk::metrics::data::ResourceMetrics;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{self, BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanData};

use super::Teller;
use crate::config::otel;

/// What all of this process's traces and metrics have in common.
pub(super) fn resource(teller: &Teller) -> Resource {
    let mut resource = Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if !otel::names_the_service() {
        let name = if matches!(teller, Teller::Worker(_)) { "onceward" } else { "onceward-publish" };
        resource = resource.with_service_name(name);
    }
    if !otel::names_the_host() {
        // An attempt may begin long after its parent, the span of the message, has ended. Jaeger takes that for a clock that
        // differs, and moves the span, unless both are known to be of one host.
        resource = resource.with_attribute(KeyValue::new("host.name", hostname()));
    }
    if let Teller::Worker(name) = teller {
        resource = resource.with_attribute(KeyValue::new("service.instance.id", name.clone()));
    }
    resource.build()
}

fn hostname() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}

/// The provider of traces; none without a collector.
pub(super) fn traces(teller: &Teller) -> Result<Option<SdkTracerProvider>, String> {
    if !otel::exports_traces() {
        return Ok(None);
    }
    let exporter = SpanExporter::builder().build().map_err(|error| wrong("TRACES", &error))?;
    let mut batches = BatchConfigBuilder::default();
    if !otel::sets_schedule_delay() {
        batches = batches.with_scheduled_delay(otel::SPANS_LEAVE_AFTER);
    }
    // Bounded by the library: 2,048 spans wait (OTEL_BSP_MAX_QUEUE_SIZE), and those beyond are dropped.
    let processor =
        BatchSpanProcessor::builder(TellOnce::new(exporter, "traces")).with_batch_config(batches.build()).build();
    let provider = SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource(teller)).build();
    global::set_tracer_provider(provider.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());
    super::trace::switch_on(otel::follows_the_parent());
    Ok(Some(provider))
}

/// What pushes metrics; none without a collector.
pub(super) fn metrics() -> Result<Option<TellOnce<MetricExporter>>, String> {
    if !otel::exports_metrics() {
        return Ok(None);
    }
    let exporter = MetricExporter::builder().build().map_err(|error| wrong("METRICS", &error))?;
    Ok(Some(TellOnce::new(exporter, "metrics")))
}

fn wrong(signal: &str, error: &opentelemetry_otlp::ExporterBuildError) -> String {
    format!(
        "the collector of OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_{signal}_ENDPOINT can't be used ({error}): \
         write it like http://localhost:4318"
    )
}

/// An exporter that says once that the collector is unreachable, and once that it is back.
#[derive(Debug)]
pub(super) struct TellOnce<E> {
    exporter: E,
    what: &'static str,
    is_away: AtomicBool,
}

impl<E> TellOnce<E> {
    fn new(exporter: E, what: &'static str) -> Self {
        Self { exporter, what, is_away: AtomicBool::new(false) }
    }

    fn tell(&self, exported: OTelSdkResult) -> OTelSdkResult {
        let what = self.what;
        match (&exported, self.is_away.swap(exported.is_err(), Ordering::Relaxed)) {
            (Err(error), false) => {
                tracing::warn!(%error, "the collector of {what} is unreachable; they are dropped meanwhile");
            }
            (Ok(()), true) => tracing::info!("the collector of {what} is back"),
            _ => {}
        }
        exported
    }
}

impl trace::SpanExporter for TellOnce<SpanExporter> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.tell(self.exporter.export(batch).await)
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

impl PushMetricExporter for TellOnce<MetricExporter> {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        self.tell(self.exporter.export(metrics).await)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn temporality(&self) -> Temporality {
        self.exporter.temporality()
    }
}
