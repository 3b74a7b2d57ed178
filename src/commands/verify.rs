//! `onceward verify`: tests the promises on anybody's servers, from the receiver's side only.
//!
//! [`produce`] publishes a load, [`receive`] takes it and behaves as badly as planned, [`dead_letters`] looks into the
//! dead-letter exchange, [`harm`] does harm meanwhile. What was seen is held against the promises in [`crate::proof`].

mod args;
mod cost;
mod dead_letters;
mod harm;
mod hostile;
mod last_words;
pub mod link;
mod poison;
mod produce;
mod receive;
mod show;
pub mod suspend;
mod trouble;
mod watch;
mod workers;
pub mod write;

use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::args::VerifyArgs;
pub(crate) use self::show::{NO_SAMPLE, report as show_report};
use self::watch::Watch;
use self::workers::Workers;
use super::output::{self, OutputError};
use crate::broker::probe;
use crate::commands::signals::Signals;
use crate::proof::history::History;
use crate::proof::load::Load;
use crate::proof::report::{self, Environment, Report, Verdict};
use crate::proof::{check, figures};
use crate::store::{Database, status};
use crate::telemetry;

/// How long the workers may take to own every partition.
const OWNED_WITHIN: Duration = Duration::from_mins(1);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Why a run was not passed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
    /// Some promise was broken.
    #[error("promises were broken: {0}")]
    Broken(String),
    /// A worker of its own ended before anything was published.
    #[error("a worker of this run ended by itself, before the load began: {0}")]
    NoWorker(String),
    /// It was stopped before its end.
    #[error("interrupted")]
    Interrupted,
    /// It could not be carried out.
    #[error("{0}")]
    Failed(String),
    /// What was found could not be printed.
    #[error(transparent)]
    Output(#[from] OutputError),
    /// The report could not be written.
    #[error("the report could not be written to {to}: {error}")]
    Report {
        /// Where to.
        to: String,
        /// Why not.
        error: String,
    },
}

/// Runs, prints what was found, and writes the report, whatever happens.
///
/// # Errors
/// Why it was not passed.
pub async fn run(args: &VerifyArgs) -> Result<(), VerifyError> {
    args.validate().map_err(VerifyError::Setting)?;
    let destination = args.report.as_deref().map(write::Destination::read).transpose().map_err(VerifyError::Setting)?;
    let mut signals = Signals::listen().map_err(|error| VerifyError::Failed(error.to_string()))?;
    let run = format!("{:x}", uuid::Uuid::now_v7().as_u128() >> 48);
    let load = Arc::new(Load::new(args.load(), &run));
    let watch = Watch::new(load);
    let started_at = crate::clock::unix_seconds();
    let stop = CancellationToken::new();
    let mut environment = environment(args).await;
    let mut workers = Workers::new(args);
    let outcome = {
        let carrying_out = carry_out(args, &watch, &mut workers, &stop);
        tokio::select! {
            outcome = carrying_out => outcome,
            () = signals.recv() => Err(VerifyError::Interrupted),
        }
    };
    stop.cancel();
    environment.database = environment.database.or(database_version(args).await);
    let costs = cost::of_all(args, &workers, watch.delivered());
    tokio::select! {
        () = workers.stop() => {}
        () = signals.recv() => workers.kill(),
    }
    let history = watch.history(outcome.is_err());
    let mut report = sum_up(args, watch.load(), &history, environment, run, started_at);
    report.figures.processes = costs;
    conclude(&mut report, &outcome);
    // Of a run that has not begun there is nothing to show.
    let has_begun = !matches!(outcome, Err(VerifyError::NoWorker(_)));
    let printed = if has_begun { output::text(&show::report(&report)) } else { Ok(()) };
    if let Some(destination) = destination {
        let to = destination.to_string();
        let written = destination.write(&report).await;
        written.map_err(|error| VerifyError::Report { to: to.clone(), error })?;
        telemetry::tell(format_args!("the report is in {to}"));
    }
    outcome?;
    match report.verdict {
        Verdict::Passed => Ok(printed?),
        _ => Err(VerifyError::Broken(broken(&report))),
    }
}

/// The run itself, up to the moment at which everything that was confirmed is delivered or dead-lettered.
async fn carry_out(
    args: &VerifyArgs,
    watch: &Arc<Watch>,
    workers: &mut Workers,
    stop: &CancellationToken,
) -> Result<(), VerifyError> {
    let failed = |error: String| VerifyError::Failed(error);
    let receivers = receive::start(args, watch, stop).await.map_err(failed)?;
    workers.start().await.map_err(failed)?;
    tokio::select! {
        biased;
        why = workers.ended() => return Err(VerifyError::NoWorker(why)),
        owned = until_owned(args) => owned.map_err(failed)?,
    }
    let dead_letters = dead_letters::open(args, watch, stop).await.map_err(failed)?;
    let bar = show::bar(watch);
    let (hostile, turns) = mpsc::unbounded_channel();
    let producing = produce::all(args, watch, &receivers, hostile);
    let annoying = hostile::all(args, watch, &receivers, turns);
    let troubling = harm::all(args, watch, workers, &receivers);
    let working = async {
        tokio::try_join!(producing, annoying, troubling)?;
        watch.done_or_stuck(args.finish_within).await;
        // What comes twice may come late.
        tokio::time::sleep(args.linger).await;
        Ok(())
    };
    let ended = tokio::select! {
        ended = working => ended,
        () = show::advance(&bar, watch) => Ok(()),
    };
    bar.finish_and_clear();
    dead_letters.close().await;
    ended.map_err(failed)
}

/// Waits until every partition has an owner: before, the exchange may not have all its queues yet, and would deal an
/// entity first to one and then to another.
async fn until_owned(args: &VerifyArgs) -> Result<(), String> {
    let database = Database::new(&args.database.database_url, "onceward verify").map_err(|error| error.to_string())?;
    let asking = async {
        loop {
            if let Ok(mut connection) = database.connect().await {
                let owned = status::is_all_owned(&mut connection).await.unwrap_or(false);
                let _ = connection.close().await;
                if owned {
                    return;
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    let late =
        "no worker owns the partitions: is one running on these servers? (--worker-log shows what the run's own say)";
    tokio::time::timeout(OWNED_WITHIN, asking).await.map_err(|_| late.into())
}

fn sum_up(
    args: &VerifyArgs,
    load: &Load,
    history: &History,
    environment: Environment,
    run: String,
    started_at: u64,
) -> Report {
    let promises = args.promises();
    let findings = check::check(load, history, &promises);
    let figures = figures::figures(history, &promises, findings.explained);
    let checks = report::checks(findings);
    let verdict = if checks.iter().all(|check| check.passed) { Verdict::Passed } else { Verdict::Failed };
    Report {
        version: report::VERSION,
        run,
        started_at,
        verdict,
        reason: None,
        load: args.load(),
        promises,
        environment,
        checks,
        figures,
        troubles: report::troubles(history),
    }
}

fn conclude(report: &mut Report, outcome: &Result<(), VerifyError>) {
    match outcome {
        Ok(()) => {}
        Err(VerifyError::Interrupted) => report.verdict = Verdict::Interrupted,
        Err(error) => {
            report.verdict = Verdict::Error;
            report.reason = Some(error.to_string());
        }
    }
}

fn broken(report: &Report) -> String {
    let broken = report.checks.iter().filter(|check| !check.passed);
    broken.map(|check| format!("{} ({})", check.check.title(), check.violations)).collect::<Vec<_>>().join(", ")
}

async fn environment(args: &VerifyArgs) -> Environment {
    let broker = probe::ask(&args.broker.amqp_url).await;
    Environment {
        onceward: env!("CARGO_PKG_VERSION").into(),
        broker: broker.map(|info| format!("{} {}", info.product, info.version)),
        database: None,
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        processors: std::thread::available_parallelism().map_or(0, |count| u32::try_from(count.get()).unwrap_or(0)),
        own_workers: args.workers.into(),
    }
}

async fn database_version(args: &VerifyArgs) -> Option<String> {
    let mut connection = Database::new(&args.database.database_url, "onceward verify").ok()?.connect().await.ok()?;
    let version = sqlx::query_scalar("show server_version").fetch_one(&mut connection).await.ok();
    let _ = connection.close().await;
    version
}
