//! `onceward sink`: a small HTTP receiver for trying things out.
//!
//! It shows every request or counts them, and answers as badly as it is told to: [`plan`] decides, [`seen`] remembers the
//! keys, [`visit`] is one request, [`show`] writes.

mod plan;
mod seen;
mod show;
mod visit;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::serve::ListenerExt as _;
use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::plan::{DelayRange, Plan};
use self::visit::Sink;
use super::output::OutputError;
use crate::commands::signals::Signals;
use crate::config::percent;

/// How long a stop waits for requests that are being answered.
const DRAIN: Duration = Duration::from_secs(10);

/// The settings of `onceward sink`.
#[derive(Clone, Debug, Args)]
pub struct SinkArgs {
    /// Where to listen; port 0 takes a free one, and the first line printed tells which
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    pub listen: String,
    /// The time before an answer, or a range of which each attempt gets its part, such as 10ms..200ms
    #[arg(long, default_value = "0ms", value_name = "TIME")]
    pub delay: DelayRange,
    /// The share of the attempts that fail, in percent
    #[arg(long, default_value_t = 0.0, value_name = "PERCENT", value_parser = percent)]
    pub fail_share: f64,
    /// Fail the first K attempts of each idempotency key; the last 1,000,000 keys are remembered
    #[arg(long, default_value_t = 0, value_name = "K")]
    pub fail_first: u32,
    /// The status that failures get
    #[arg(long, default_value_t = 503, value_parser = clap::value_parser!(u16).range(300..=599))]
    pub status: u16,
    /// Never answer
    #[arg(long)]
    pub hang: bool,
    /// Print counts, once a second while something happens, instead of a line for each request
    #[arg(long)]
    pub quiet: bool,
    /// What the random choices are made from: the same seed, key and attempt always get the same answer
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// Why the receiver could not run.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The address is not to be had.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// What was asked for.
        address: String,
        /// What the system said.
        error: io::Error,
    },
    /// The signals of the operating system cannot be listened to.
    #[error("cannot listen to signals: {0}")]
    Signals(io::Error),
    /// The server ended by itself.
    #[error("the receiver has failed: {0}")]
    Serve(io::Error),
    /// Nobody reads what it shows any more.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Receives until SIGINT or SIGTERM, or until nobody reads standard output any more; then prints totals.
///
/// # Errors
/// If it cannot listen.
pub async fn run(args: &SinkArgs) -> Result<(), SinkError> {
    let mut signals = Signals::listen().map_err(SinkError::Signals)?;
    let failed = |error| SinkError::Listen { address: args.listen.clone(), error };
    let listener = TcpListener::bind(&args.listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let stop = CancellationToken::new();
    let sink = Arc::new(Sink::new(args.plan(), args.quiet, stop.clone()));
    sink.show.line(&format!("listening on http://{address}"));
    if args.quiet {
        tokio::spawn(Arc::clone(&sink).count_every_second());
    } else {
        sink.show.line(&show::heading());
    }
    let router = Router::new().fallback(visit::receive).with_state(Arc::clone(&sink));
    // Without it a small answer may wait for the acknowledgement of what was sent before.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
    let ended = tokio::select! {
        ended = serving => ended.map_err(SinkError::Serve),
        () = until_drained(&mut signals, &stop) => Ok(()),
    };
    sink.show.line(&sink.totals());
    ended?;
    Ok(sink.show.written()?)
}

/// Waits for a reason to stop, and then as long as a stop may take; a second signal ends the waiting.
async fn until_drained(signals: &mut Signals, stop: &CancellationToken) {
    tokio::select! {
        () = signals.recv() => {}
        () = stop.cancelled() => {}
    }
    stop.cancel();
    let _ = tokio::time::timeout(DRAIN, signals.recv()).await;
}

impl SinkArgs {
    fn plan(&self) -> Plan {
        Plan {
            delay: self.delay,
            fail_share: self.fail_share / 100.0,
            fail_first: self.fail_first,
            status: StatusCode::from_u16(self.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
            hang: self.hang,
            seed: self.seed,
        }
    }
}
