//! The settings of a run.

use std::time::Duration;

use clap::Args;

use super::poison::Poison;
use super::suspend::HOW_TO_BUILD;
use super::trouble::Trouble;
use crate::config::{BrokerArgs, DatabaseArgs, OriginArgs, SecretUrl, duration, percent};
use crate::proof::check::Promises;
use crate::proof::load::LoadPlan;

/// The arguments of `onceward verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub broker: BrokerArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub origin: OriginArgs,
    /// Workers to start for the run; 0 tests those that run already, which need the settings below
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=16))]
    pub workers: u16,
    /// A further flag for the workers that are started, such as --worker-flag=--lease=3s
    #[arg(long, value_name = "FLAG", allow_hyphen_values = true)]
    pub worker_flag: Vec<String>,
    /// The workers' partitions
    #[arg(long, default_value_t = 32)]
    pub partitions: u16,
    /// The workers' cap on a host
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=2_000))]
    pub host_connections: u16,
    /// The workers' limit of attempts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub max_attempts: u16,
    /// The workers' first delay
    #[arg(long, default_value = "1s", value_parser = duration, value_name = "TIME")]
    pub backoff_initial: Duration,
    /// The workers' largest delay
    #[arg(long, default_value = "60s", value_parser = duration, value_name = "TIME")]
    pub backoff_max: Duration,
    /// The workers' time for an attempt
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "TIME")]
    pub attempt_timeout: Duration,
    /// Events to send
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    pub events: u32,
    /// Events to publish in a second; 0 is as fast as they are confirmed
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub rate: u32,
    /// Entities that the events belong to
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub entities: u32,
    /// Exponent of the Zipf distribution over the entities; 0 is uniform
    #[arg(long, default_value_t = 0.0)]
    pub zipf: f64,
    /// Hosts that the events go to
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub hosts: u16,
    /// Bytes of a body
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub payload: u32,
    /// Share of the events that are published twice, in percent
    #[arg(long, default_value_t = 2.0, value_parser = percent, value_name = "PERCENT")]
    pub duplicates: f64,
    /// Share of the entities that number their events, in percent; these come out of order
    #[arg(long, default_value_t = 50.0, value_parser = percent, value_name = "PERCENT")]
    pub numbered: f64,
    /// Share of the events whose first attempts fail (5xx, 429, reset, timeout), in percent
    #[arg(long, default_value_t = 2.0, value_parser = percent, value_name = "PERCENT")]
    pub failures: f64,
    /// Share of the events that never succeed, in percent
    #[arg(long, default_value_t = 0.1, value_parser = percent, value_name = "PERCENT")]
    pub doomed: f64,
    /// Messages that break the contract; or hostile, for messages that no client sends, one of each kind: headers nested
    /// 18,000 deep or filling their frame, text that is not UTF-8, a forged x-death, bodies up to 12 MiB and more;
    /// hostile:N for N of them, the kinds in turns; or both, such as 10,hostile:200. Hostile ones need a broker without TLS
    #[arg(long, default_value = "10", value_name = "WHAT")]
    pub poison: Poison,
    /// Everything random is made from it: the same seed is the same load
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Harm to do meanwhile, in this order: kill, pause=TIME, suspend=TIME (a worker of this run's; suspended, its clock
    /// stands still), cut=broker:TIME, slow=database:TIME, commit-lost=TIME (the first worker's link to a server; commits
    /// and their answers are lost at random), receiver=TIME (the first host closes every connection), receiver-down=TIME (it
    /// refuses them), run=COMMAND (a shell command, such as one that stops the broker)
    #[arg(long, value_name = "WHAT")]
    pub trouble: Vec<Trouble>,
    /// The library that keeps a suspended worker's clock, for --trouble suspend: `cc -shared -fPIC -O2 -o suspend.so
    /// deploy/suspend.c`
    #[arg(long, value_name = "LIBRARY")]
    pub suspend_with: Option<std::path::PathBuf>,
    /// The pause before each trouble
    #[arg(long, default_value = "5s", value_parser = duration, value_name = "TIME")]
    pub trouble_every: Duration,
    /// How long to wait, after the last publish and the last trouble, while nothing more is delivered or dead-lettered
    #[arg(long, default_value = "2min", value_parser = duration, value_name = "TIME")]
    pub finish_within: Duration,
    /// How long to look for what comes twice, after everything has come
    #[arg(long, default_value = "1s", value_parser = duration, value_name = "TIME")]
    pub linger: Duration,
    /// Where the receiver listens; each host is a port of its own
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub listen: std::net::IpAddr,
    /// The name by which the workers reach the receiver [default: the address that it listens on]
    #[arg(long, value_name = "HOST")]
    pub advertise: Option<String>,
    /// Also show what this process costs, such as --watch postgres=1234
    #[arg(long, value_name = "NAME=PID", value_parser = watched)]
    pub watch: Vec<(String, u32)>,
    /// Where the report goes: a file, or an object `s3://BUCKET/KEY` (credentials from the `AWS_*` variables)
    #[arg(long, env = "ONCEWARD_REPORT", value_name = "FILE|URL")]
    pub report: Option<String>,
    /// Where the started workers' logs go [default: nowhere]
    #[arg(long, value_name = "FILE")]
    pub worker_log: Option<std::path::PathBuf>,
    /// The file of settings that this run has read: its workers do, too.
    #[arg(skip)]
    pub config: Option<std::path::PathBuf>,
}

impl VerifyArgs {
    /// The rules that tie settings together.
    pub(super) fn validate(&self) -> Result<(), String> {
        if !(0.0..=5.0).contains(&self.zipf) {
            return Err(format!("--zipf is {}: write a number from 0 to 5", self.zipf));
        }
        if self.failures + self.doomed > 100.0 {
            return Err("--failures and --doomed are more than 100 percent together".into());
        }
        let is_encrypted = |url: &SecretUrl| url.reveal().starts_with("amqps:");
        if self.poison.hostile > 0 && self.broker.amqp_url.all().iter().any(is_encrypted) {
            return Err("--poison hostile is sent frame by frame, which needs a broker without TLS (amqp://)".into());
        }
        self.validate_troubles()
    }

    /// What troubles need.
    fn validate_troubles(&self) -> Result<(), String> {
        let any = |needs: fn(&Trouble) -> bool| self.trouble.iter().any(needs);
        if self.workers == 0 && any(Trouble::needs_a_worker) {
            return Err(
                "--trouble kill, pause, suspend, cut, slow and commit-lost need a worker of this run's: use --workers \
                        1 or more"
                    .into(),
            );
        }
        let needs_a_link = any(Trouble::needs_a_link);
        if needs_a_link && self.broker.amqp_url.all().len() > 1 {
            return Err(
                "--trouble cut, slow and commit-lost need one broker URL: the other nodes would be a way round the \
                        link"
                    .into(),
            );
        }
        let is_encrypted = self.broker.amqp_url.first().reveal().starts_with("amqps:");
        if is_encrypted && needs_a_link {
            return Err(
                "--trouble cut, slow and commit-lost go through a proxy, which needs a broker without TLS (amqp://)"
                    .into(),
            );
        }
        if any(Trouble::reads_commits) && needs_tls(self.database.database_url.reveal()) {
            return Err("--trouble commit-lost reads what is said to the database, which needs one without TLS \
                        (sslmode=disable)"
                .into());
        }
        if any(Trouble::needs_a_clock) {
            match &self.suspend_with {
                None => {
                    return Err(format!(
                        "--trouble suspend needs --suspend-with LIBRARY: build it by `{HOW_TO_BUILD}`"
                    ));
                }
                Some(library) if !library.is_file() => {
                    return Err(format!(
                        "--suspend-with {} is no file: build it by `{HOW_TO_BUILD}`",
                        library.display()
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    pub(super) fn load(&self) -> LoadPlan {
        LoadPlan {
            seed: self.seed,
            events: self.events,
            entities: self.entities,
            zipf: self.zipf,
            hosts: self.hosts,
            payload_bytes: self.payload,
            duplicates_percent: self.duplicates,
            numbered_percent: self.numbered,
            failures_percent: self.failures,
            doomed_percent: self.doomed,
            poison: self.poison.contract,
            hostile: self.poison.hostile,
        }
    }

    pub(super) fn promises(&self) -> Promises {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Promises {
            host_connections: self.host_connections.into(),
            max_attempts: self.max_attempts.into(),
            backoff_initial_ms: millis(self.backoff_initial),
            backoff_max_ms: millis(self.backoff_max),
            backoff_factor: 2.0,
            attempt_timeout_ms: millis(self.attempt_timeout),
        }
    }
}

/// Whether a URL of the database insists on TLS.
fn needs_tls(url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else { return false };
    url.query_pairs().any(|(name, value)| {
        matches!(&*name, "sslmode" | "ssl-mode") && matches!(&*value, "require" | "verify-ca" | "verify-full")
    })
}

fn watched(text: &str) -> Result<(String, u32), String> {
    let (name, pid) = text.split_once('=').ok_or("write NAME=PID")?;
    Ok((name.into(), pid.parse().map_err(|_| format!("{pid:?} is no process id"))?))
}
