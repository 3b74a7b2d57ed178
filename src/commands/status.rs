//! `onceward status`: partitions, open events, who is blocked and why, hosts.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use sqlx::Connection as _;

use super::output::{self, OutputError};
use crate::config::DatabaseArgs;
use crate::store::status::{self, CrowdedRow, EntityRow, MemberRow, Status, WithheldRow};
use crate::store::{self, Database};

/// The arguments of `onceward status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub database: DatabaseArgs,
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
    /// Entities and hosts to show
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub top: u16,
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The database failed.
    #[error("{}", crate::store::explain(.0))]
    Database(#[from] sqlx::Error),
    /// No worker has run here.
    #[error("this database holds no Onceward yet: `onceward worker` sets it up when it first starts")]
    Empty,
    /// Writing JSON failed.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The answer could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Prints the status.
///
/// # Errors
/// Why there is none.
pub async fn run(args: &StatusArgs) -> Result<(), StatusError> {
    let mut connection = Database::new(&args.database.database_url, "onceward status")?.connect().await?;
    let status = status::read(&mut connection, args.top.into())
        .await
        .map_err(|error| if store::is_empty(&error) { StatusError::Empty } else { error.into() })?;
    connection.close().await?;
    if args.json {
        output::line(serde_json::to_string_pretty(&status)?)?;
    } else {
        output::text(&render(&status))?;
    }
    Ok(())
}

fn render(status: &Status) -> String {
    let mut text = String::new();
    text += &section("Workers", &members(status));
    text += &destinations(status);
    text += &crowded(status);
    text += &section("Partitions", &partitions(status));
    text += &section("Open events", &states(status));
    if !status.busiest.is_empty() {
        text += &section("Busiest entities", &entities(&status.busiest));
    }
    if !status.blocked.is_empty() {
        text += &section("Entities blocked for longest", &entities(&status.blocked));
    }
    if !status.hosts.is_empty() {
        text += &section("Hosts", &hosts(status));
    }
    if !status.gates.is_empty() {
        text += &section("Gates", &gates(status));
    }
    if !status.pauses.is_empty() {
        text += &section("Paused", &pauses(status));
    }
    text += &withheld(status);
    text + &format!("FAILED events kept: {}, of which not yet dead-lettered: {}\n", status.failed, status.unpublished)
}

fn section(title: &str, table: &Table) -> String {
    format!("{title}\n{table}\n\n")
}

fn table(header: &[&str], numbers: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    for &column in numbers {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn members(status: &Status) -> Table {
    let header = ["worker", "state", "since", "lease ends in", "requests to a host", "partitions", "open", "in flight"];
    let mut table = table(&header, &[2, 3, 4, 5, 6, 7]);
    for row in &status.members {
        table.add_row([
            row.name.clone(),
            row.state.clone(),
            time(row.since_seconds),
            ends_in(row.lease_seconds),
            row.host_share.to_string(),
            row.partitions.to_string(),
            row.open.to_string(),
            row.in_flight.to_string(),
        ]);
    }
    if status.members.is_empty() {
        table.add_row(["nobody"]);
    }
    table
}

/// What is wrong with the destinations' file, if anything is.
fn destinations(status: &Status) -> String {
    let present = || status.members.iter().filter(|row| row.state != "gone");
    let refusal = |row: &MemberRow| {
        let why = row.destinations_refused.as_ref()?;
        Some(format!("{} has refused the destinations' file, and goes on with the one before: {why}\n", row.name))
    };
    let version = |row: &MemberRow| row.destinations.clone().unwrap_or("none".into());
    let mut lines: Vec<String> = present().filter_map(refusal).collect();
    if present().map(version).collect::<BTreeSet<_>>().len() > 1 {
        lines.push("The workers have different versions of the destinations' file:\n".into());
        lines.extend(present().map(|row| format!("  {}: {}\n", row.name, version(row))));
    }
    if lines.is_empty() { String::new() } else { lines.concat() + "\n" }
}

/// Limits of destinations that more workers than that can't keep together.
fn crowded(status: &Status) -> String {
    let sentence = |row: &CrowdedRow| {
        let CrowdedRow { entry, connections, workers } = row;
        format!(
            "{entry}: `connections` is {connections}, but each of the {workers} workers has one request at a time, up to \
             {workers} together: set it to {workers} or more, or run no more than {connections}\n"
        )
    };
    let lines: String = status.crowded.iter().map(sentence).collect();
    if lines.is_empty() { lines } else { lines + "\n" }
}

fn ends_in(seconds: f64) -> String {
    if seconds < 0.0 { format!("ended {} ago", time(-seconds)) } else { time(seconds) }
}

/// Partitions that follow each other under one owner are shown as one row.
fn partitions(status: &Status) -> Table {
    let mut table =
        table(&["partitions", "owner", "since", "lease ends in", "open events", "in flight"], &[2, 3, 4, 5]);
    for group in status.partitions.chunk_by(|a, b| a.owner == b.owner) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let range = if group.len() == 1 {
            first.partition.to_string()
        } else {
            format!("{}–{}", first.partition, last.partition)
        };
        let none = || "–".to_owned();
        // The last of them to come.
        let since = group.iter().filter_map(|partition| partition.since_seconds).reduce(f64::min);
        let open: i64 = group.iter().map(|partition| partition.open).sum();
        let in_flight: i64 = group.iter().map(|partition| partition.in_flight).sum();
        table.add_row([
            range,
            first.owner.clone().unwrap_or("nobody".into()),
            since.map_or_else(none, time),
            first.lease_seconds.map_or_else(none, ends_in),
            open.to_string(),
            in_flight.to_string(),
        ]);
    }
    table
}

fn states(status: &Status) -> Table {
    let mut table = table(&["state", "events", "oldest"], &[1, 2]);
    for row in &status.states {
        table.add_row([row.state.clone(), row.events.to_string(), time(row.oldest_seconds)]);
    }
    if status.states.is_empty() {
        table.add_row(["none", "0", "–"]);
    }
    table
}

fn entities(rows: &[EntityRow]) -> Table {
    let header = ["entity", "open", "state", "attempts", "waits for", "since", "until", "host"];
    let mut table = table(&header, &[1, 3, 5, 6]);
    for row in rows {
        let until = row
            .until_seconds
            .map_or("–".into(), |seconds| if seconds > 0.0 { format!("in {}", time(seconds)) } else { "now".into() });
        table.add_row([
            row.entity.clone(),
            row.open.to_string(),
            row.state.clone(),
            row.attempts.to_string(),
            row.waits_for.clone(),
            time(row.since_seconds),
            until,
            row.host.clone(),
        ]);
    }
    table
}

fn hosts(status: &Status) -> Table {
    let mut table = table(&["host", "open", "in flight", "retry wait", "parked"], &[1, 2, 3, 4]);
    for row in &status.hosts {
        let numbers = [row.open, row.in_flight, row.retry_wait, row.parked].map(|number| number.to_string());
        table.add_row(std::iter::once(row.host.clone()).chain(numbers));
    }
    table
}

fn gates(status: &Status) -> Table {
    let mut table = table(&["host", "gate", "shut since", "probes failed", "next probe", "because"], &[2, 3, 4]);
    for row in &status.gates {
        let is_paused = status.pauses.iter().any(|pause| pause.scope == "everything" || pause.name == row.host);
        let next = match row.state.as_str() {
            "shut" if is_paused => "when it is resumed".into(),
            "shut" if row.until_seconds > 0.0 => format!("in {}", time(row.until_seconds)),
            "shut" => "with the next event".into(),
            "probing" => "now".into(),
            _ => "–".into(),
        };
        table.add_row([
            row.host.clone(),
            if row.state == "open" { "open again".into() } else { row.state.clone() },
            format!("{} ago", time(row.since_seconds)),
            row.probes.to_string(),
            next,
            row.reason.clone(),
        ]);
    }
    table
}

fn pauses(status: &Status) -> Table {
    let mut table = table(&["what", "since", "until", "by", "because"], &[1, 2]);
    for row in &status.pauses {
        let what = match row.scope.as_str() {
            "everything" => "everything".into(),
            "entity" => format!("entity {}", row.name.escape_debug()),
            _ => row.name.clone(),
        };
        let until = row.until_seconds.map_or("resumed".into(), |seconds| format!("in {}", time(seconds)));
        table.add_row([what, format!("{} ago", time(row.since_seconds)), until, row.by.clone(), row.why.clone()]);
    }
    table
}

/// What keeps events from being sent that is not the receiver's doing: a sentence for each host.
fn withheld(status: &Status) -> String {
    let sentence = |row: &WithheldRow| {
        let WithheldRow { host, entities, since_seconds, why, workers } = row;
        let (entities, wait) = match entities {
            1 => ("1 entity".to_owned(), "waits"),
            more => (format!("{more} entities"), "wait"),
        };
        let at = if workers.is_empty() { String::new() } else { format!(" (at {})", workers.join(", ")) };
        format!("{host}: {entities} {wait}, without spending attempts, for {}{at}: {why}\n", time(*since_seconds))
    };
    let lines: String = status.withheld.iter().map(sentence).collect();
    if lines.is_empty() { lines } else { format!("Not sent\n{lines}\n") }
}

/// Tenths below ten seconds, whole seconds above.
fn time(seconds: f64) -> String {
    let seconds = seconds.max(0.0);
    if seconds < 10.0 {
        format!("{seconds:.1}s")
    } else {
        humantime::format_duration(Duration::from_secs_f64(seconds.round())).to_string()
    }
}
