//! Logs: for people on a terminal, JSON elsewhere. Standard output belongs to what commands print; logs go to standard error.

use std::io::IsTerminal as _;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, filter, fmt};

use super::trace;
use crate::config::LogFormat;

/// What is logged unless `ONCEWARD_LOG` says otherwise, in the directives of `tracing-subscriber`'s `EnvFilter`.
const DEFAULT_FILTER: &str = "info,lapin=off,sqlx=off,opentelemetry=off";

/// Starts logging, and recording traces if there is somebody to send them to.
pub(super) fn init(traces: Option<&SdkTracerProvider>) -> Result<(), String> {
    let directives = crate::config::log_filter().unwrap_or_else(|| DEFAULT_FILTER.into());
    let filter = EnvFilter::try_new(&directives)
        .map_err(|error| format!("ONCEWARD_LOG is {directives:?} ({error}): write info, debug or onceward=debug"))?;
    let for_people = match crate::config::log_format()? {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let lines = if for_people {
        let ansi = std::io::stderr().is_terminal();
        fmt::layer().with_writer(std::io::stderr).with_ansi(ansi).with_target(false).boxed()
    } else {
        fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).with_target(false).boxed()
    };
    let spans = traces.map(|traces| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer("onceward"))
            .with_context_activation(false)
            .with_level(false)
            .with_location(false)
            .with_target(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter::filter_fn(|metadata| metadata.target() == trace::TARGET))
    });
    let lines = lines.with_filter(filter).with_filter(filter::filter_fn(|metadata| metadata.target() != trace::TARGET));
    tracing_subscriber::registry().with(lines).with(spans).init();
    Ok(())
}
