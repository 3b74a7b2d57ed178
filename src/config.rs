//! Flags and environment variables, read and validated: the one room that knows where settings come from.

pub mod destinations;
mod file;
mod gate;
mod given;
mod guard;
pub mod nodes;
mod numbers;
mod origin;
pub mod otel;
pub mod reload;
mod secret;
pub mod secret_url;
mod servers;
mod signing;
pub mod systemd;
pub mod tls;
pub mod worker_file;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};

pub use self::gate::GateArgs;
pub use self::given::{read_file, read_text};
pub use self::guard::GuardArgs;
pub use self::origin::OriginArgs;
pub use self::secret_url::SecretUrl;
pub use self::servers::{BrokerArgs, DatabaseArgs};
pub use self::signing::SigningArgs;
use crate::domain::admission::FirstSequence;
use crate::domain::backoff::{Backoff, Delays, TICK};
use crate::domain::contract::{self, Terms};
use crate::domain::destination::Destination;
use crate::domain::event::Target;
use crate::domain::verdict::Policy;

/// What an exhausted event does to its entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnExhausted {
    /// It is final: the entity goes on
    Continue,
    /// The entity waits until an operator decides (onceward redrive)
    Hold,
}

/// How the exchange of the events routes entities to partitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ExchangeType {
    /// Of the plugin `rabbitmq_consistent_hash_exchange`
    #[default]
    #[value(name = "x-consistent-hash")]
    ConsistentHash,
    /// Of RabbitMQ 4.3 and later: no plugin, and the same partition after a restart of the broker
    #[value(name = "x-modulus-hash")]
    ModulusHash,
}

impl ExchangeType {
    /// As the broker knows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConsistentHash => "x-consistent-hash",
            Self::ModulusHash => "x-modulus-hash",
        }
    }
}

/// How `--first-sequence` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FirstSequenceArg {
    /// Number 1
    #[value(name = "1")]
    One,
    /// Whatever number comes first
    Any,
}

/// The settings of `onceward worker`.
#[derive(Clone, Debug, Args)]
pub struct WorkerArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub broker: BrokerArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub database: DatabaseArgs,
    /// Partitions of the exchange; fixed when the topology is first declared
    #[arg(long, env = "ONCEWARD_PARTITIONS", default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub partitions: u16,
    /// The type of the exchange of the events; fixed when it is first declared
    #[arg(long, env = "ONCEWARD_EXCHANGE_TYPE", value_enum, default_value_t, value_name = "TYPE")]
    pub exchange_type: ExchangeType,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub origin: OriginArgs,
    /// The most requests at a time to one host, over all workers together; the least that any of them has holds
    #[arg(long, env = "ONCEWARD_HOST_CONNECTIONS", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=2_000))]
    pub host_connections: u16,
    /// The most requests at a time to all hosts; at least ten times --host-connections
    #[arg(long, env = "ONCEWARD_MAX_IN_FLIGHT", default_value_t = 2_048, value_parser = clap::value_parser!(u16).range(10..=20_000))]
    pub max_in_flight: u16,
    /// Time for one attempt in all: connecting, sending and the answer
    #[arg(long, env = "ONCEWARD_ATTEMPT_TIMEOUT", default_value = "5s", value_parser = duration, value_name = "TIME")]
    pub attempt_timeout: Duration,
    /// Failed attempts before an event is FAILED and dead-lettered
    #[arg(long, env = "ONCEWARD_MAX_ATTEMPTS", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub max_attempts: u16,
    /// Attempts during which the worker stopped, so that nobody knows their outcome, before an event is FAILED; they don't count as failed
    #[arg(long, env = "ONCEWARD_MAX_UNKNOWN_OUTCOMES", default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub max_unknown_outcomes: u16,
    /// The delay after the first failed attempt; in steps of 100 ms
    #[arg(long, env = "ONCEWARD_BACKOFF_INITIAL", default_value = "1s", value_parser = duration, value_name = "TIME")]
    pub backoff_initial: Duration,
    /// The largest delay between two attempts, before jitter
    #[arg(long, env = "ONCEWARD_BACKOFF_MAX", default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub backoff_max: Duration,
    /// What each further failure multiplies the delay by
    #[arg(long, env = "ONCEWARD_BACKOFF_FACTOR", default_value_t = 2.0, value_parser = factor)]
    pub backoff_factor: f64,
    /// The most that jitter adds to a delay, in percent
    #[arg(long, env = "ONCEWARD_BACKOFF_JITTER", default_value_t = 10, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub backoff_jitter: u8,
    /// The most that a receiver's Retry-After (429, 503, redirects) puts the next attempt off
    #[arg(long, env = "ONCEWARD_RETRY_AFTER_MAX", default_value = "1h", value_parser = duration, value_name = "TIME")]
    pub retry_after_max: Duration,
    /// Statuses that are not retried, such as 400,404,410-422 [default: none]
    #[arg(long, env = "ONCEWARD_FINAL_STATUSES", default_value = "", hide_default_value = true, value_name = "LIST")]
    pub final_statuses: StatusList,
    /// What an exhausted event does to its entity
    #[arg(long, env = "ONCEWARD_ON_EXHAUSTED", default_value = "continue")]
    pub on_exhausted: OnExhausted,
    /// The number that an entity's sequence begins with
    #[arg(long, env = "ONCEWARD_FIRST_SEQUENCE", default_value = "1")]
    pub first_sequence: FirstSequenceArg,
    /// Where events without a `destination` header go [default: nowhere, the header is required]
    #[arg(long, env = "ONCEWARD_DEFAULT_DESTINATION", value_name = "URL|NAME", value_parser = destination)]
    pub default_destination: Option<Target>,
    /// A file with settings for single receivers (deploy/docs/destinations.md); read again on SIGHUP and when it changes [default: none]
    #[arg(long, env = "ONCEWARD_DESTINATIONS", value_name = "FILE")]
    pub destinations: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub gate: GateArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub guard: GuardArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub signing: SigningArgs,
    /// How long a stop waits for what is in flight; longer than an attempt
    #[arg(long, env = "ONCEWARD_DRAIN_TIME", default_value = "30s", value_parser = duration, value_name = "TIME")]
    pub drain_time: Duration,
    /// The largest event body, in bytes
    #[arg(long, env = "ONCEWARD_BODY_LIMIT", default_value_t = 1_048_576, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=134_217_728))]
    pub body_limit: u32,
    /// How long finished events and their keys are kept; a key that comes again later is a new event
    #[arg(long, env = "ONCEWARD_RETENTION", default_value = "7days", value_parser = duration, value_name = "TIME")]
    pub retention: Duration,
    /// The name that other workers, status and logs show [default: HOSTNAME:PID]
    #[arg(long, env = "ONCEWARD_NAME", value_name = "NAME", value_parser = worker_name)]
    pub name: Option<String>,
    /// Where metrics and health are served: ADDRESS:PORT, or off; port 0 is any free one [default: 127.0.0.1:9464, if free]
    #[arg(long, env = "ONCEWARD_ADMIN_LISTEN", value_name = "ADDRESS", value_parser = admin_listen)]
    pub admin_listen: Option<AdminListen>,
    /// How long a worker that died keeps its partitions; longer than an attempt
    #[arg(long, env = "ONCEWARD_LEASE", default_value = "15s", value_parser = duration, value_name = "TIME")]
    pub lease: Duration,
}

impl WorkerArgs {
    /// The rules that tie settings together.
    ///
    /// # Errors
    /// One line: what is wrong and what to write instead.
    pub fn validate(&self) -> Result<(), String> {
        let show = humantime::format_duration;
        if self.backoff_initial < TICK {
            return Err(format!("--backoff-initial is {}: use 100ms or more", show(self.backoff_initial)));
        }
        if self.backoff_max < self.backoff_initial {
            let (max, initial) = (show(self.backoff_max), show(self.backoff_initial));
            return Err(format!("--backoff-max ({max}) is less than --backoff-initial ({initial}): raise it"));
        }
        if self.backoff_max > Duration::from_hours(24) {
            return Err(format!("--backoff-max is {}: use 1day or less", show(self.backoff_max)));
        }
        if self.retry_after_max > Duration::from_hours(24) {
            return Err(format!("--retry-after-max is {}: use 1day or less", show(self.retry_after_max)));
        }
        if self.attempt_timeout < Duration::from_millis(10) {
            return Err(format!("--attempt-timeout is {}: use 10ms or more", show(self.attempt_timeout)));
        }
        if self.lease < self.attempt_timeout * 3 / 2 || self.lease < Duration::from_secs(1) {
            let (lease, timeout) = (show(self.lease), show(self.attempt_timeout));
            return Err(format!(
                "--lease is {lease}: an attempt begins only if it ends within the lease, so use at least 1s and \
                 one and a half times --attempt-timeout ({timeout})"
            ));
        }
        if self.drain_time < self.attempt_timeout {
            let (drain, timeout) = (show(self.drain_time), show(self.attempt_timeout));
            return Err(format!("--drain-time ({drain}) is shorter than --attempt-timeout ({timeout}): raise it"));
        }
        let least = u32::from(self.host_connections) * 10;
        if u32::from(self.max_in_flight) < least {
            let (connections, in_all) = (self.host_connections, self.max_in_flight);
            return Err(format!(
                "--max-in-flight is {in_all}: one host gets a tenth of it at most, so --host-connections \
                 {connections} needs {least} or more"
            ));
        }
        if self.retention < Duration::from_mins(1) {
            return Err(format!("--retention is {}: use 1min or more", show(self.retention)));
        }
        servers::fit_together(&self.broker, &self.database)?;
        self.origin.validate(self.exchange_type)?;
        self.gate.validate()?;
        let default = match &self.default_destination {
            Some(Target::Url(url)) => Some(url),
            Some(Target::Name(_)) | None => None,
        };
        self.guard.validate(default)
    }

    /// What this worker is called.
    #[must_use]
    pub fn name(&self) -> String {
        let default = || format!("{}:{}", gethostname::gethostname().to_string_lossy(), std::process::id());
        self.name.clone().unwrap_or_else(default)
    }

    /// The settings of the verdict on an attempt.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            max_attempts: self.max_attempts,
            max_unknown: self.max_unknown_outcomes,
            delays: Delays::Growing(Backoff {
                initial: self.backoff_initial,
                max: self.backoff_max,
                factor: self.backoff_factor,
                jitter: f64::from(self.backoff_jitter) / 100.0,
            }),
            retry_after_max: self.retry_after_max,
            final_statuses: self.final_statuses.0.clone(),
            success_statuses: BTreeSet::new(),
            hold: self.on_exhausted == OnExhausted::Hold,
            gone: self.gate.gone.into(),
        }
    }

    /// What holds for receivers without an entry of their own.
    #[must_use]
    pub fn defaults(&self) -> Destination {
        let mut defaults = Destination::defaults(self.policy(), self.attempt_timeout);
        defaults.request.secrets = self.signing.secrets.clone();
        defaults.gate = self.gate.policy();
        defaults
    }

    /// The settings of the contract.
    #[must_use]
    pub fn terms(&self) -> Terms {
        let (default_destination, body_limit) = (self.default_destination.clone(), self.body_limit as usize);
        let OriginArgs { entity_from, sequence_from } = self.origin.clone();
        Terms { entity_from, sequence_from, default_destination, body_limit, destinations: None }
    }

    /// Which number a line begins with.
    #[must_use]
    pub fn first_sequence(&self) -> FirstSequence {
        match self.first_sequence {
            FirstSequenceArg::One => FirstSequence::One,
            FirstSequenceArg::Any => FirstSequence::Any,
        }
    }
}

/// Where the admin port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminListen {
    /// Nowhere.
    Off,
    /// There.
    At(SocketAddr),
}

impl AdminListen {
    /// Where it is unless told otherwise: the port that OpenTelemetry's Prometheus exporters use by default.
    pub const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_464);
}

/// Reads where the admin port is.
pub(crate) fn admin_listen(text: &str) -> Result<AdminListen, String> {
    match text {
        "off" => Ok(AdminListen::Off),
        _ => text.parse().map(AdminListen::At).map_err(|_| "write 127.0.0.1:9464, [::]:9464 or off".into()),
    }
}

/// HTTP statuses, written as a list of numbers and ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusList(pub BTreeSet<u16>);

impl FromStr for StatusList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        statuses(text, 300).map(Self)
    }
}

/// Reads a list of statuses and ranges of them, none less than `least`.
fn statuses(text: &str, least: u16) -> Result<BTreeSet<u16>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let ranges = parts.map(|part| status_range(part, least)).collect::<Result<Vec<_>, _>>()?;
    Ok(ranges.into_iter().flatten().collect())
}

fn status_range(part: &str, least: u16) -> Result<RangeInclusive<u16>, String> {
    let (from, to) = part.split_once('-').unwrap_or((part, part));
    match (from.trim().parse::<u16>(), to.trim().parse::<u16>()) {
        (Ok(from), Ok(to)) if least <= from && from <= to && to <= 599 => Ok(from..=to),
        _ => Err(format!("{part:?} is no status from {least} to 599 and no range of them: write 400,404,410-422")),
    }
}

/// More would overflow the clocks that a time is added to.
const LONGEST: Duration = Duration::from_hours(3_650 * 24);

/// Reads a time.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time > LONGEST => Err("use 3650days or less".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(format!("{error}: write a number and a unit, such as 500ms, 5s or 2min")),
    }
}

/// Reads a share in percent.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("write a number from 0 to 100".into()),
    }
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (1.0..=10.0).contains(&factor) => Ok(factor),
        _ => Err("write a number from 1 to 10".into()),
    }
}

/// The most characters of a worker's name. Tables and logs show it in a line; a pod's name has 63 at most.
const LONGEST_NAME: usize = 100;

/// Reads a worker's name, which terminals and connections show as it is.
fn worker_name(text: &str) -> Result<String, String> {
    match text.chars().count() {
        1..=LONGEST_NAME if !text.contains(char::is_control) => Ok(text.into()),
        0 => Err("write a name, or leave it out for HOSTNAME:PID".into()),
        _ => Err(format!("write 1 to {LONGEST_NAME} characters, none of them a control character")),
    }
}

/// Room is left for the suffixes of the queues' names in AMQP's 255 bytes.
fn exchange_name(text: &str) -> Result<String, String> {
    let usable = !text.is_empty() && text.len() <= 100 && !text.starts_with("amq.");
    if usable && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        Ok(text.into())
    } else {
        Err("use 1 to 100 letters, digits, `-`, `_` and `.`, not beginning with `amq.`".into())
    }
}

/// Reads a URL, or the name of a destination.
pub(crate) fn destination(text: &str) -> Result<Target, String> {
    contract::read_target(text, None).map_err(|error| error.to_string())
}

/// What to log: `ONCEWARD_LOG`. A variable and no flag, because logging starts before the flags are read.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the room that reads the environment")]
pub fn log_filter() -> Option<String> {
    std::env::var("ONCEWARD_LOG").ok().filter(|text| !text.is_empty())
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// JSON, one object a line.
    Json,
}

/// How to log: `ONCEWARD_LOG_FORMAT`.
///
/// # Errors
/// One line: what to write instead.
#[expect(clippy::disallowed_methods, reason = "this is the room that reads the environment")]
pub fn log_format() -> Result<LogFormat, String> {
    match std::env::var("ONCEWARD_LOG_FORMAT").as_deref() {
        Err(_) | Ok("" | "auto") => Ok(LogFormat::Auto),
        Ok("text") => Ok(LogFormat::Text),
        Ok("json") => Ok(LogFormat::Json),
        Ok(other) => Err(format!("ONCEWARD_LOG_FORMAT is {other:?}: write auto, text or json")),
    }
}

#[cfg(test)]
mod tests;
