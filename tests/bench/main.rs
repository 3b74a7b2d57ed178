//! The benchmark: how fast Onceward is, and what it costs, on real servers. Run it by `deploy/bench`.
//!
//! [`drain`] is one measurement; the scenarios put several of them side by side, in turns, as often as they were asked to.
//! The receiver and the bare pipe are this program in other roles, so that the system tells their CPU apart.

#![allow(
    clippy::disallowed_methods,
    reason = "a schedule is kept by a thread that sleeps, and a worker is started without the caller's own settings"
)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts and times of a run are far below 2^52, and are shown with three digits"
)]
#![allow(clippy::print_stdout, reason = "what was found is for whoever runs it")]
#![allow(clippy::struct_excessive_bools, reason = "each is a way in which one measurement differs from a plain one")]

mod args;
mod clock;
mod cpu;
mod drain;
mod load;
mod pipe;
mod plot;
mod processes;
mod receiver;
mod results;
mod scenarios;
mod servers;
mod show;
mod stamp;
mod watch;
mod world;

use std::process::ExitCode;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use self::args::{Cli, Role, Settings};
use self::results::Results;
use self::servers::Servers;

/// Anything that ends a run is told to a person.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
/// What may fail.
pub type Fallible<T> = Result<T, Failure>;

/// What all scenarios need.
pub struct Bench {
    servers: Servers,
    settings: Settings,
    seed: u64,
}

impl Bench {
    /// Tells those who wait how it goes.
    pub fn say(&self, what: &str) {
        eprintln!("{:>6.0} s  {what}", onceward::clock::now().as_secs_f64());
    }

    /// The number of a run, for people.
    #[must_use]
    pub fn title(&self, what: &str, run: u32) -> String {
        format!("{what}, {} of {}", run + 1, self.settings.runs)
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let _ = rustls::crypto::ring::default_provider().install_default();
    // The clock that progress is told by begins here.
    let _ = onceward::clock::now();
    match work(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("deploy/bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work(mut cli: Cli) -> Fallible<ExitCode> {
    // The receiver has one thread for its work: on a machine that others need, it is the cheapest.
    let runtime = match cli.role {
        Some(Role::Receive(_)) => tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        _ => tokio::runtime::Builder::new_multi_thread().enable_all().build()?,
    };
    let code = match cli.role.take() {
        Some(Role::Receive(args)) => runtime.block_on(receiver::run(args)).map(|()| ExitCode::SUCCESS),
        Some(Role::Pipe(args)) => runtime.block_on(pipe::run(args)).map(|()| ExitCode::SUCCESS),
        None => runtime.block_on(run(&cli)),
    };
    // A thread that reads standard input can't be waited for.
    runtime.shutdown_background();
    code
}

/// Measures, and tells also what was measured before a failure.
async fn run(cli: &Cli) -> Fallible<ExitCode> {
    let settings = cli.settings.clone();
    let bench = Bench { servers: Servers::read(&cli.servers)?, seed: settings.seed, settings: settings.clone() };
    let mut results = Results::new(bench.servers.machine().await?, settings);
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let ended = tokio::select! {
        biased;
        _ = interrupt.recv() => Ok(ExitCode::from(130)),
        _ = terminate.recv() => Ok(ExitCode::from(143)),
        ended = scenarios::run(&bench, &mut results, &cli.out) => ended.map(|()| ExitCode::SUCCESS),
    };
    println!("{}", show::tables(&results));
    results.write(&cli.out)?;
    plot::write(&results, &cli.out)?;
    bench.say(&format!("written to {}", cli.out.display()));
    if results.broken.is_empty() { ended } else { ended.and(Err("promises were broken".into())) }
}
