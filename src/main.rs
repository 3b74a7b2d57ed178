//! The program: commands, and their exit codes.

use std::fmt::Display;
use std::process::ExitCode;

use clap::Parser as _;
use onceward::cli::{Cli, Command};
use onceward::telemetry::{self, Teller};
use onceward::{app, commands};

/// Exit code of a setting that makes no sense, as clap's own.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version go to standard output, whole.
        Err(shown) if !shown.use_stderr() => shown.exit(),
        Err(wrong) => return fail(one_line(&wrong.to_string()), USAGE),
    };
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail("TLS can't be set up", 1);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error, 1),
    };
    let telemetry = {
        let _context = runtime.enter();
        telemetry::init(&teller(&cli.command))
    };
    let telemetry = match telemetry {
        Ok(telemetry) => telemetry,
        Err(error) => return fail(error, USAGE),
    };
    let code = runtime.block_on(run(cli.command));
    telemetry.end();
    // Nothing of what is left matters any more: what has to end in order has ended.
    runtime.shutdown_background();
    code
}

fn teller(command: &Command) -> Teller {
    match command {
        Command::Worker(args) => Teller::Worker(args.name()),
        Command::Publish(_) => Teller::Producer,
        _ => Teller::Command,
    }
}

async fn run(command: Command) -> ExitCode {
    match command {
        Command::Worker(args) => match app::run(&args).await {
            Err(
                error @ (app::WorkerError::Setting(_)
                | app::WorkerError::Cluster(_)
                | app::WorkerError::Encoding(_)
                | app::WorkerError::NoSessions),
            ) => fail(error, USAGE),
            ended => code(ended),
        },
        Command::Publish(args) => code(commands::publish::run(&args).await),
        Command::Sink(args) => code(commands::sink::run(&args).await),
        Command::Status(args) => code(commands::status::run(&args).await),
        Command::Redrive(args) => code(commands::redrive::run(&args).await),
        Command::Pause(args) => code(commands::pause::pause(&args).await),
        Command::Resume(args) => code(commands::pause::resume(&args).await),
        Command::Destinations(args) => match commands::destinations::run(&args) {
            Err(error @ commands::destinations::DestinationsError::Setting(_)) => fail(error, USAGE),
            ended => code(ended),
        },
        Command::Verify(args) => match commands::verify::run(&args).await {
            Err(error @ commands::verify::VerifyError::Setting(_)) => fail(error, USAGE),
            ended => code(ended),
        },
        Command::Report(args) => code(commands::report::run(&args)),
        Command::Health(args) => code(commands::health::run(&args).await),
    }
}

/// What is wrong, without clap's paragraphs on usage.
fn one_line(message: &str) -> String {
    let paragraph = message.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = paragraph.split_whitespace().collect();
    format!("{} (see --help for flags and variables)", words.join(" "))
}

fn code<E: Display>(ended: Result<(), E>) -> ExitCode {
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error, 1),
    }
}

fn fail(error: impl Display, code: u8) -> ExitCode {
    telemetry::tell(format_args!("onceward: {error}"));
    ExitCode::from(code)
}
