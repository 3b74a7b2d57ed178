//! The command line: every command with its settings.

use clap::{Parser, Subcommand};

use crate::commands;
use crate::config::WorkerArgs;

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
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
