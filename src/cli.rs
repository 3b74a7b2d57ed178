//! The command line: every command with its settings.

use std::ffi::OsString;

use clap::{CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::commands;
use crate::config::WorkerArgs;
use crate::config::worker_file;
pub use crate::config::worker_file::{Taken, Wrong};

const LOG_HELP: &str = "\
ONCEWARD_LOG sets what is logged: info (default), warn, debug, onceward=debug, …
ONCEWARD_LOG_FORMAT is text, json or auto (default): text on a terminal, JSON elsewhere
OTEL_EXPORTER_OTLP_ENDPOINT names a collector of traces and metrics; the other OTEL_* variables hold, too";

/// Delivers events from RabbitMQ to HTTP endpoints: once, in order, to the end.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 110, propagate_version = true, after_help = LOG_HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Take events from the broker and deliver them, until SIGTERM or Ctrl-C
    Worker(Box<WorkerArgs>),
    /// Publish events from the command line, a file or standard input
    Publish(Box<commands::publish::PublishArgs>),
    /// A small HTTP receiver for trying things out
    Sink(commands::sink::SinkArgs),
    /// Show partitions, open events, who is blocked and why
    Status(commands::status::StatusArgs),
    /// Send FAILED events again, or skip one that its entity waits for
    Redrive(commands::redrive::RedriveArgs),
    /// Let the events of a host, an entity, or all of them, wait until they are resumed
    Pause(commands::pause::PauseArgs),
    /// Let what was paused go on; or open the gate of a host that was down, without waiting for a probe
    Resume(commands::pause::ResumeArgs),
    /// Check a file of destinations
    Destinations(commands::destinations::DestinationsArgs),
    /// Test the promises on your own servers, and write a report
    Verify(Box<commands::verify::VerifyArgs>),
    /// Print a report of verify, or compare two
    Report(commands::report::ReportArgs),
    /// Ask a worker on this machine whether it is ready: for health checks
    Health(commands::health::HealthArgs),
    /// Print a script that completes commands and flags
    Completions {
        /// The shell that is to read it
        shell: Shell,
    },
}

/// The whole command line, with the flag of the file of settings wherever it is taken.
#[must_use]
pub fn command() -> clap::Command {
    worker_file::offer(Cli::command())
}

/// The script that completes commands and flags in a shell.
#[must_use]
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "onceward", &mut script);
    script
}

/// Reads a command line, the variables, and the file of `--config`.
///
/// # Errors
/// What is wrong, or help that was asked for.
pub fn read(arguments: &[OsString]) -> Result<(Cli, Taken), Wrong> {
    worker_file::parse(arguments)
}

/// Reads the settings of this process once more, of a worker: the file may say something else by now.
///
/// # Errors
/// One line that says what is wrong.
pub fn worker_again() -> Result<(WorkerArgs, Taken), String> {
    let arguments: Vec<_> = std::env::args_os().collect();
    match read(&arguments) {
        Ok((Cli { command: Command::Worker(args) }, taken)) => {
            args.validate().map_err(|wrong| taken.place(&wrong))?;
            Ok((*args, taken))
        }
        Ok(_) => Err("these are no settings of a worker".into()),
        Err(wrong) => Err(wrong.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn each_shell_is_told_of_commands_and_of_the_flag_that_many_have() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = String::from_utf8(completions(shell)).unwrap();
            assert!(script.contains("redrive") && script.contains("config"), "{shell}");
        }
    }
}
