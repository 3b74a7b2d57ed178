//! `onceward publish`: events from the command line, a file or standard input, each confirmed by the broker.
//!
//! A thread reads ([`input`], [`line`]), one loop publishes and collects the confirms ([`send`]), and a report counts
//! ([`report`]). Memory is bounded by the window of unconfirmed events, not by the input.

pub mod event;
mod fault;
mod input;
pub mod line;
mod report;
mod send;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use lapin::options::{ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ExchangeKind};

use super::output::{self, OutputError};
use crate::broker::{Heartbeat, Nodes};
use crate::commands::signals::Signals;
use crate::config::{BrokerArgs, OriginArgs};
use crate::telemetry;

/// Headings of --help.
const ONE: &str = "One event";
const MANY: &str = "Many events";
const USAGE: &str = "\
onceward publish [OPTIONS] --entity <ENTITY> --destination <URL> --body <TEXT>
       onceward publish [OPTIONS] --ndjson <FILE>";
const EXAMPLES: &str = "\
Examples:
  onceward publish --entity user-1 --destination http://localhost:8080/ --body '{\"hello\":\"world\"}'
  echo '{\"entity\":\"user-1\",\"key\":\"order-1\",\"body\":{\"hello\":\"world\"}}' |
    onceward publish --destination http://localhost:8080/ --ndjson -";

const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// The settings of `onceward publish`.
#[derive(Clone, Debug, Args)]
#[command(override_usage = USAGE, after_help = EXAMPLES)]
pub struct PublishArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub broker: BrokerArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub origin: OriginArgs,
    /// A file with one JSON object a line (at most 8 MiB each), or `-` for standard input.
    /// Fields: entity, key, destination, sequence, headers (an object), `content_type`, traceparent, and either
    /// `body` (any JSON value, sent as it is written) or `text` (a string, whose text is sent)
    #[arg(long, help_heading = MANY, value_name = "FILE", required_unless_present = "entity", conflicts_with = "entity")]
    pub ndjson: Option<PathBuf>,
    /// Whose order it belongs to
    #[arg(long, help_heading = ONE, required_unless_present = "ndjson")]
    pub entity: Option<String>,
    /// The body
    #[arg(long, help_heading = ONE, value_name = "TEXT", requires = "entity", required_unless_present_any = ["ndjson", "body_file"],
        conflicts_with = "ndjson", allow_hyphen_values = true)]
    pub body: Option<String>,
    /// A file that holds the body, or `-` for standard input
    #[arg(long, help_heading = ONE, value_name = "FILE", requires = "entity", conflicts_with_all = ["ndjson", "body"])]
    pub body_file: Option<PathBuf>,
    /// The idempotency key [default: a new UUID, printed]
    #[arg(long, help_heading = ONE, requires = "entity")]
    pub key: Option<String>,
    /// The number in its entity's order
    #[arg(long, help_heading = ONE, value_name = "N", requires = "entity", allow_negative_numbers = true)]
    pub sequence: Option<i64>,
    /// The W3C trace context
    #[arg(long, help_heading = ONE, requires = "entity")]
    pub traceparent: Option<String>,
    /// The URL to POST to; with --ndjson, for lines that name none
    #[arg(long, value_name = "URL")]
    pub destination: Option<String>,
    /// An HTTP header for the receiver, can be given more than once; with --ndjson, for every line
    #[arg(long = "header", value_name = "NAME:VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// The content type [default: application/json, and text/plain; charset=utf-8 for `text`]
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// The most events at a time that the broker has not confirmed yet
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub in_flight: u16,
    /// Publish also what the worker will dead-letter, for trying that out
    #[arg(long)]
    pub no_check: bool,
}

/// Why not everything was published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No connection.
    #[error("cannot connect to the broker at {url}: {reason}")]
    Unreachable {
        /// Without its password.
        url: String,
        /// What the network or the broker said.
        reason: String,
    },
    /// Nobody has declared the exchange.
    #[error("exchange `{0}` does not exist: start `onceward worker` once, it declares it")]
    MissingExchange(String),
    /// The broker refused what comes before the first event.
    #[error("the broker refused: {0}")]
    Refused(String),
    /// The input cannot be opened.
    #[error("cannot read {0}")]
    Input(String),
    /// The signals of the operating system cannot be listened to.
    #[error("cannot listen to signals: {0}")]
    Signals(io::Error),
    /// Some events are not confirmed, or the input was not read to its end; they are listed before.
    #[error("{0}")]
    NotAll(String),
    /// Everything is published, but that could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Publishes, and says how many events the broker has confirmed and which not.
///
/// # Errors
/// If anything was not published, or is not known to be.
pub async fn run(args: &PublishArgs) -> Result<(), PublishError> {
    let source = input::open(args)?;
    let connection = connect(args).await?;
    let channel = open_channel(&connection, &args.broker.exchange).await?;
    let mut signals = Signals::listen().map_err(PublishError::Signals)?;
    let bar = source.progress_bar();
    let started = crate::clock::now();
    let (status, limit) = (connection.status().clone(), args.in_flight.into());
    let mut sender = send::Sender::new(channel, status, &args.broker.exchange, limit, bar.clone());
    let report = sender.run(source.start(), &mut signals).await;
    bar.finish_and_clear();
    crate::broker::close(&connection, "published").await;
    tell(&report, crate::clock::now().saturating_sub(started))
}

fn tell(report: &report::Report, took: Duration) -> Result<(), PublishError> {
    if report.is_complete() {
        let success = report.success(took);
        // The key may be a new one that nobody else knows.
        return Ok(output::line(&success).inspect_err(|_| telemetry::tell(&success))?);
    }
    let mut stderr = io::stderr().lock();
    for line in report.listing() {
        let _ = writeln!(stderr, "{line}");
    }
    Err(PublishError::NotAll(report.failure()))
}

async fn connect(args: &PublishArgs) -> Result<Connection, PublishError> {
    let urls = &args.broker.amqp_url;
    let unreachable = |reason| PublishError::Unreachable { url: urls.to_string(), reason };
    let mut nodes = Nodes::new(urls);
    let connecting = nodes.connect("onceward publish", Heartbeat::default());
    match tokio::time::timeout(CONNECT_WITHIN, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(unreachable(fault::describe(&error))),
        Err(_) => Err(unreachable(format!("no answer within {} s", CONNECT_WITHIN.as_secs()))),
    }
}

async fn open_channel(connection: &Connection, exchange: &str) -> Result<Channel, PublishError> {
    let refused = |error: lapin::Error| match fault::reply_code(&error) {
        Some(404) => PublishError::MissingExchange(exchange.into()),
        _ => PublishError::Refused(fault::describe(&error)),
    };
    let channel = connection.create_channel().await.map_err(refused)?;
    // A passive declaration only asks whether the name is there; the type is not looked at.
    let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    let kind = ExchangeKind::Custom("x-consistent-hash".into());
    channel.exchange_declare(exchange.into(), kind, passive, FieldTable::default()).await.map_err(refused)?;
    channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(refused)?;
    Ok(channel)
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write it as NAME:VALUE")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}
