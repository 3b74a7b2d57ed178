//! `onceward destinations check`: what a file of destinations says, before a worker reads it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde::Serialize;

use super::output::{self, OutputError};
use crate::config::WorkerArgs;
use crate::config::destinations::{Limits, Refused, Setting, Sheet, WorkerFlags, read_sheet, settings};
use crate::domain::event::Target;
use crate::domain::redact;
use crate::telemetry;

/// The arguments of `onceward destinations`.
#[derive(Clone, Debug, Args)]
pub struct DestinationsArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DestinationsCommand,
}

/// What can be done with destinations.
#[derive(Clone, Debug, Subcommand)]
pub enum DestinationsCommand {
    /// Read a file as a worker would, say what is wrong in it, and what holds for a URL or a name
    Check(Box<CheckArgs>),
}

const CHECK_HELP: &str = "\
What the file does not set is as with `onceward worker`: the flags and variables above hold, and all others of a worker are accepted.
Exit code: 0 if the file can be used, 1 if not, 2 if a flag is wrong.";

/// The arguments of `onceward destinations check`.
#[derive(Clone, Debug, Args)]
#[command(after_help = CHECK_HELP)]
pub struct CheckArgs {
    /// The file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Show which entry this URL, or the destination of this name, gets, and every value that holds
    #[arg(value_name = "URL|NAME", value_parser = crate::config::destination)]
    pub target: Option<Target>,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub worker: WorkerFlags,
}

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DestinationsError {
    /// The worker's flags make no sense.
    #[error("{0}")]
    Setting(String),
    /// Something is wrong in it, which was said.
    #[error("{file}: refused, complaints: {complaints}")]
    Refused {
        /// The file.
        file: String,
        /// How many there are.
        complaints: usize,
    },
    /// There is no destination of this name.
    #[error("no destination is called {name:?}; {known}")]
    Name {
        /// The name.
        name: String,
        /// Which ones there are.
        known: String,
    },
    /// Writing JSON failed.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The answer could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Checks a file.
///
/// # Errors
/// Why it can't be used.
pub fn run(args: &DestinationsArgs) -> Result<(), DestinationsError> {
    let DestinationsCommand::Check(args) = &args.command;
    let worker = &args.worker.0;
    worker.validate().map_err(DestinationsError::Setting)?;
    let limits = Limits { lease: worker.lease, drain_time: worker.drain_time, max_in_flight: worker.max_in_flight };
    let sheet = match read_sheet(&args.file, &worker.defaults(), limits) {
        Ok(sheet) => sheet,
        Err(refused) => return Err(complain(args, &refused)?),
    };
    let held = args.target.as_ref().map(|target| Held::of(target, &sheet, worker)).transpose()?;
    let (names, patterns) = sheet.counts;
    let file = args.file.display().to_string();
    let checked = Checked { file, names, patterns, digest: &sheet.destinations.digest, held };
    if args.json {
        output::line(serde_json::to_string_pretty(&checked)?)?;
    } else {
        output::text(&checked.render())?;
    }
    Ok(())
}

/// Says what is wrong, each in a line that begins with the place, as editors take it.
fn complain(args: &CheckArgs, refused: &Refused) -> Result<DestinationsError, DestinationsError> {
    let (lines, more) = refused.complaints();
    let file = args.file.display().to_string();
    if args.json {
        let complaints = serde_json::json!({ "file": file, "complaints": lines, "more": more });
        output::line(serde_json::to_string_pretty(&complaints)?)?;
    } else {
        for line in lines {
            telemetry::tell(format_args!("{line}"));
        }
    }
    Ok(DestinationsError::Refused { file, complaints: lines.len() + more })
}

/// What a file says.
#[derive(Serialize)]
struct Checked<'a> {
    file: String,
    names: usize,
    patterns: usize,
    digest: &'a str,
    #[serde(flatten)]
    held: Option<Held>,
}

/// What holds for a target.
#[derive(Serialize)]
struct Held {
    target: String,
    entry: String,
    settings: Vec<Row>,
}

/// One value, and where it comes from.
#[derive(Serialize)]
struct Row {
    setting: &'static str,
    value: String,
    from: String,
    /// In the file, if it comes from there.
    line: Option<usize>,
}

impl Held {
    fn of(target: &Target, sheet: &Sheet, worker: &WorkerArgs) -> Result<Self, DestinationsError> {
        let (heading, destination, origins) = sheet.of(target).ok_or_else(|| {
            let names = sheet.names();
            let known = if names.is_empty() {
                "the file has no names".into()
            } else {
                format!("there are: {}", names.join(", "))
            };
            DestinationsError::Name { name: target.to_string(), known }
        })?;
        let row = |setting: &Setting| {
            let value = match setting.key {
                "connections" if destination.connections.is_none() => worker.host_connections.to_string(),
                _ => setting.show(destination)?,
            };
            let (from, line) = match origins.get(setting.key) {
                Some(origin) => (origin.heading.to_string(), Some(origin.line)),
                None => (setting.flag.unwrap_or("default").into(), None),
            };
            Some(Row { setting: setting.key, value, from, line })
        };
        let target = match target {
            Target::Url(url) => redact::url(url),
            Target::Name(name) => name.to_string(),
        };
        Ok(Self { target, entry: heading.to_string(), settings: settings().iter().filter_map(row).collect() })
    }
}

impl Checked<'_> {
    fn render(&self) -> String {
        let Self { file, names, patterns, digest, held } = self;
        let text = format!("{file}: names: {names}, patterns: {patterns}; digest {digest}\n");
        let Some(Held { target, entry, settings }) = held else { return text };
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(["setting", "value", "from"]);
        for row in settings {
            let line = row.line.map(|line| format!(", line {line}")).unwrap_or_default();
            table.add_row([row.setting.to_owned(), row.value.clone(), format!("{}{line}", row.from)]);
        }
        format!("{text}{target}: {entry}\n{table}\n")
    }
}
