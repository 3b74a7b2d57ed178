//! The program: commands, and their exit codes.

use std::fmt::Display;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use onceward::app::{self, Given};
use onceward::cli::{self, Command, Taken, Wrong};
use onceward::commands::{self, output};
use onceward::telemetry::{self, Teller};
use tokio::signal::unix::{SignalKind, signal};

/// musl's own allocator takes one lock for all threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code of a setting that makes no sense, as clap's own.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(error, 1),
    };
    // First of all, for files are read before a command begins: the end of a terminal or of a session, or somebody who wants
    // settings to be read again, ends nothing.
    let _hangup = {
        let _context = runtime.enter();
        signal(SignalKind::hangup())
    };
    let arguments: Vec<_> = std::env::args_os().collect();
    let (cli, taken) = match cli::read(&arguments) {
        Ok(read) => read,
        // Help and version go to standard output, whole.
        Err(Wrong::Flags(shown)) if !shown.use_stderr() => {
            let written = shown.print().and_then(|()| io::stdout().flush());
            return code(written.map_err(output::OutputError::from));
        }
        Err(wrong) => return fail(wrong, USAGE),
    };
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return fail("TLS can't be set up", 1);
    }
    let telemetry = {
        let _context = runtime.enter();
        telemetry::init(&teller(&cli.command))
    };
    let telemetry = match telemetry {
        Ok(telemetry) => telemetry,
        Err(error) => return fail(error, USAGE),
    };
    let code = runtime.block_on(run(cli.command, taken));
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

async fn run(command: Command, taken: Taken) -> ExitCode {
    let given = Given { taken: taken.clone(), again: cli::worker_again };
    match command {
        Command::Worker(args) => match app::run(&args, given).await {
            Err(app::WorkerError::Setting(wrong)) => fail(taken.place(&wrong), USAGE),
            Err(
                error @ (app::WorkerError::Cluster(_) | app::WorkerError::Encoding(_) | app::WorkerError::NoSessions),
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
            Err(commands::destinations::DestinationsError::Setting(wrong)) => fail(taken.place(&wrong), USAGE),
            ended => code(ended),
        },
        Command::Verify(mut args) => {
            args.config = taken.file().map(Path::to_owned);
            match commands::verify::run(&args).await {
                Err(commands::verify::VerifyError::Setting(wrong)) => fail(taken.place(&wrong), USAGE),
                ended => code(ended),
            }
        }
        Command::Report(args) => code(commands::report::run(&args)),
        Command::Health(args) => code(commands::health::run(&args).await),
        Command::Completions { shell } => code(output::bytes(&cli::completions(shell))),
    }
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
