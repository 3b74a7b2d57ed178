//! `onceward report`: prints a report of `onceward verify` for people, or compares two.

use std::ops::Add;
use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use super::output::{self, OutputError};
use super::verify::{NO_SAMPLE, show_report};
use crate::config::read_text;
use crate::proof::figures::Times;
use crate::proof::report::{Report, VERSION, schema};

/// The longest report, in bytes: one is a few thousand long.
const LONGEST: u64 = 16 * 1024 * 1024;

/// The arguments of `onceward report`.
#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// A report
    #[arg(required_unless_present = "schema", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Another one to compare it with
    #[arg(value_name = "OTHER")]
    pub other: Option<PathBuf>,
    /// Print the JSON schema of a report
    #[arg(long)]
    pub schema: bool,
}

/// Why a report can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file can't be read.
    #[error("{file}: {error}")]
    File {
        /// Its name.
        file: String,
        /// Why.
        error: String,
    },
    /// A report of another version.
    #[error("{file}: this is a report of version {found}; this program reads version {VERSION}")]
    Version {
        /// Its name.
        file: String,
        /// Its version.
        found: u32,
    },
    /// The answer could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Prints.
///
/// # Errors
/// Why a report can't be shown.
pub fn run(args: &ReportArgs) -> Result<(), ReportError> {
    if args.schema {
        return Ok(output::line(format_args!("{:#}", schema()))?);
    }
    let Some(file) = &args.file else { return Ok(()) };
    let report = read(file)?;
    match &args.other {
        None => output::text(&show_report(&report))?,
        Some(other) => output::line(compare(&report, &read(other)?))?,
    }
    Ok(())
}

fn read(file: &Path) -> Result<Report, ReportError> {
    let name = file.display().to_string();
    let failed = |error: String| ReportError::File { file: name.clone(), error };
    let text = read_text(file, LONGEST).map_err(failed)?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    let found = value["version"].as_u64().and_then(|version| u32::try_from(version).ok());
    match found {
        Some(VERSION) => serde_json::from_value(value).map_err(|error| failed(error.to_string())),
        Some(found) => Err(ReportError::Version { file: name, found }),
        None => Err(failed("no `version`: this is no report of `onceward verify`".into())),
    }
}

/// Figures side by side, with their ratio.
fn compare(one: &Report, other: &Report) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(["", "first", "second", "second / first"]);
    for column in 1..4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let verdict = |report: &Report| format!("{:?}", report.verdict).to_lowercase();
    table.add_row(["verdict".to_owned(), verdict(one), verdict(other), String::new()]);
    for (check, of_other) in one.checks.iter().zip(&other.checks) {
        let (first, second) = (check.violations.to_string(), of_other.violations.to_string());
        table.add_row([format!("violations: {}", check.check.title()), first, second, String::new()]);
    }
    for ((name, first), (_, second)) in numbers(one).into_iter().zip(numbers(other)) {
        let ratio = first.zip(second).filter(|(first, _)| *first > 0.0);
        let ratio = ratio.map_or_else(|| "–".into(), |(first, second)| format!("{:.2}", second / first));
        let show = |figure: Option<f64>| figure.map_or_else(|| NO_SAMPLE.into(), |figure| format!("{figure:.1}"));
        table.add_row([name.to_owned(), show(first), show(second), ratio]);
    }
    table
}

fn numbers(report: &Report) -> Vec<(&'static str, Option<f64>)> {
    let figures = &report.figures;
    let workers = || figures.processes.iter().filter(|process| process.name == "worker");
    let of = |times: &Option<Times>, figure: fn(&Times) -> f64| times.as_ref().map(figure);
    vec![
        ("delivered per second", figures.delivered_per_second),
        ("publish → receive, p50 ms", of(&figures.publish_to_receive, |times| times.p50_ms)),
        ("publish → receive, p99 ms", of(&figures.publish_to_receive, |times| times.p99_ms)),
        ("retry lateness, p50 ms", of(&figures.retry_lateness, |times| times.p50_ms)),
        ("retry lateness, p99 ms", of(&figures.retry_lateness, |times| times.p99_ms)),
        ("longest time without a 2xx, ms", figures.longest_silence_ms),
        ("workers' CPU µs an event", workers().filter_map(|worker| worker.cpu_micros_per_event).reduce(Add::add)),
        ("workers' peak MiB", workers().map(|worker| worker.peak_memory_mib).reduce(f64::max)),
    ]
}
