//! What the program tells of itself: [`logs`], [`trace`] and [`metrics`]. Every span and metric name is in here.
//!
//! Traces and metrics go by OTLP to the collector that the standard `OTEL_*` variables name; without one, nothing is done
//! for traces. Metrics are also at hand as Prometheus text.

mod collector;
mod hosts;
mod logs;
pub mod metrics;
pub mod trace;
mod transaction;

use std::fmt::Display;
use std::time::Duration;

use opentelemetry_sdk::metrics::SdkMeterProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;

pub use self::transaction::transaction;

/// How long the last spans and figures may take to leave.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// Who tells.
#[derive(Clone, Debug)]
pub enum Teller {
    /// A command that ends by itself, and says what it has to say on the terminal: no traces, no metrics.
    Command,
    /// A command whose work is part of its events' traces.
    Producer,
    /// A worker of this name.
    Worker(String),
}

/// What has to be ended in order.
pub struct Telemetry {
    traces: Option<SdkTracerProvider>,
    metrics: Option<SdkMeterProvider>,
    /// The last of them: the others' ends may be worth a line.
    #[expect(dead_code, reason = "kept for its end")]
    logs: logs::Logs,
}

/// Starts telling. Has to be called within a runtime's context.
///
/// # Errors
/// One line that says which variable is wrong.
pub fn init(teller: &Teller) -> Result<Telemetry, String> {
    let traces = match teller {
        Teller::Command => None,
        Teller::Producer | Teller::Worker(_) => collector::traces(teller)?,
    };
    let metrics = match teller {
        Teller::Worker(_) => Some(metrics::provider(teller)?),
        Teller::Command | Teller::Producer => None,
    };
    let logs = logs::init(traces.as_ref())?;
    Ok(Telemetry { traces, metrics, logs })
}

/// Says a line on standard error, whatever is logged, in its turn behind the log's lines.
pub fn tell(line: impl Display) {
    logs::tell(&line);
}

impl Telemetry {
    /// Sends what has not left yet. Blocks for a few seconds at most, also if nobody reads the log.
    pub fn end(self) {
        // Nobody is left to be told of a failure that the exporter has not told.
        if let Some(traces) = self.traces {
            let _ = traces.shutdown_with_timeout(LEAVE_WITHIN);
        }
        if let Some(metrics) = self.metrics {
            let _ = metrics.shutdown_with_timeout(LEAVE_WITHIN);
        }
    }
}
