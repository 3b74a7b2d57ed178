//! Logs: for people on a terminal, JSON elsewhere. Standard output belongs to what commands print; logs go to standard error.

mod queue;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};
use std::panic::PanicHookInfo;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, filter, fmt};

use self::queue::Queue;
use super::trace;
use crate::clock;
use crate::config::LogFormat;

/// What is logged unless `ONCEWARD_LOG` says otherwise, in the directives of `tracing-subscriber`'s `EnvFilter`.
const DEFAULT_FILTER: &str = "info,lapin=off,sqlx=off,opentelemetry=off";

/// How long an end waits for the last lines to be read.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// The log's writer. Its end is that of the log: the last lines leave, if somebody reads them.
pub(super) struct Logs {
    queue: Arc<Queue>,
    /// Hung up when the last line is written.
    writing: Receiver<()>,
}

impl Drop for Logs {
    fn drop(&mut self) {
        self.queue.close();
        let _ = self.writing.recv_timeout(FLUSH_WITHIN);
    }
}

/// Lines that were dropped because nobody read the log, or because it could not be written.
pub(super) fn dropped() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.dropped())
}

/// A line that is no matter of what is logged, in its turn behind the log's lines.
pub(super) fn tell(line: &dyn Display) {
    match QUEUE.get() {
        Some(queue) => queue.push(format!("{line}\n").as_bytes()),
        // There is nobody else to be told that nobody listens.
        None => drop(writeln!(io::stderr(), "{line}")),
    }
}

/// A panic is told like everything else: standard error may be what everybody would wait for.
fn tell_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let message = panic.payload_as_str().unwrap_or("no message");
    let at = panic.location().map_or_else(String::new, |at| format!(" at {at}"));
    tell(&format_args!("onceward: thread {:?} panicked{at}: {message}", thread.name().unwrap_or("unnamed")));
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tell(&backtrace);
    }
}

/// What the layers of `tracing` write to: they give each line as a whole.
struct ToQueue(Arc<Queue>);

impl Write for ToQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start_writing(for_people: bool) -> Result<Logs, String> {
    let queue = Arc::<Queue>::default();
    let (until_written, writing) = channel::<()>();
    let to_write = queue.clone();
    let write = move || {
        to_write.write_to(io::stderr(), |lost| lost_lines(lost, for_people));
        drop(until_written);
    };
    let started = std::thread::Builder::new().name("log".into()).spawn(write);
    started.map_err(|error| format!("the log's thread can't be started: {error}"))?;
    if QUEUE.set(queue.clone()).is_ok() {
        std::panic::set_hook(Box::new(tell_panic));
    }
    Ok(Logs { queue, writing })
}

/// The line that stands for those that were dropped, in the form of the others.
fn lost_lines(lost: u64, for_people: bool) -> String {
    let now = humantime::format_rfc3339_micros(clock::time_of_day());
    let message = "lines of the log are missing here: it was not read as fast as it was written";
    if for_people {
        return format!("{now}  WARN {message} lines={lost}\n");
    }
    let line = serde_json::json!({"timestamp": now.to_string(), "level": "WARN", "message": message, "lines": lost});
    format!("{line}\n")
}

/// Starts logging, and recording traces if there is somebody to send them to.
pub(super) fn init(traces: Option<&SdkTracerProvider>) -> Result<Logs, String> {
    let directives = crate::config::log_filter().unwrap_or_else(|| DEFAULT_FILTER.into());
    let filter = EnvFilter::try_new(&directives)
        .map_err(|error| format!("ONCEWARD_LOG is {directives:?} ({error}): write info, debug or onceward=debug"))?;
    let for_people = match crate::config::log_format()? {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let logs = start_writing(for_people)?;
    let queue = logs.queue.clone();
    let writer = move || ToQueue(queue.clone());
    let lines = if for_people {
        let ansi = std::io::stderr().is_terminal();
        fmt::layer().with_writer(writer).with_ansi(ansi).with_target(false).boxed()
    } else {
        fmt::layer().json().flatten_event(true).with_writer(writer).with_target(false).boxed()
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
    Ok(logs)
}
