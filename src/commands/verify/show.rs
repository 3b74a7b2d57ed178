//! What a run shows: a bar while it lasts, tables at its end.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

use super::watch::Watch;
use crate::proof::figures::{Figures, Times};
use crate::proof::report::{CheckReport, Report, Verdict};

/// Violations of a check that are printed; the report lists more.
const PRINTED: usize = 5;

/// A bar over the events that have come to their end.
pub(super) fn bar(watch: &Watch) -> ProgressBar {
    let bar = ProgressBar::new(watch.load().events.len() as u64 + u64::from(watch.load().plan.poison));
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar
}

/// Moves the bar, for ever.
pub(super) async fn advance(bar: &ProgressBar, watch: &Watch) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tick.tick().await;
        let [confirmed, delivered, dead, troubles] = watch.counts();
        bar.set_position((delivered + dead) as u64);
        bar.set_message(format!(
            "{confirmed} confirmed, {delivered} delivered, {dead} dead letters, {troubles} troubles"
        ));
    }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    for column in 1..header.len() {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// A report for people.
#[must_use]
pub(crate) fn report(report: &Report) -> String {
    let mut text = format!("{}\n\n{}\n\n", checks(&report.checks), figures(&report.figures));
    if !report.troubles.is_empty() {
        let mut table = table(&["trouble", "from s", "to s", "next 2xx after ms"]);
        for trouble in &report.troubles {
            let next = trouble.next_success_ms.map_or("none".into(), |millis| millis.to_string());
            table.add_row([trouble.what.clone(), seconds(trouble.from_ms), seconds(trouble.to_ms), next]);
        }
        let _ = write!(text, "{table}\n\n");
    }
    if !report.figures.processes.is_empty() {
        let mut table = table(&["process", "CPU s", "CPU µs an event", "peak MiB"]);
        for process in &report.figures.processes {
            table.add_row([
                format!("{} {}", process.name, process.pid),
                format!("{:.1}", process.cpu_seconds),
                format!("{:.0}", process.cpu_micros_per_event),
                format!("{:.0}", process.peak_memory_mib),
            ]);
        }
        let _ = write!(text, "{table}\n\n");
    }
    for check in report.checks.iter().filter(|check| !check.passed) {
        let _ = writeln!(text, "{}:", check.check.title());
        for found in check.listed.iter().take(PRINTED) {
            let at = [found.earlier_ms, found.later_ms].into_iter().flatten().map(seconds).collect::<Vec<_>>();
            let key = found.key.as_deref().unwrap_or("–");
            let trace = found.trace_id.as_deref().unwrap_or("–");
            let _ = writeln!(text, "  {key}: {} (at {} s, trace {trace})", found.what, at.join(" and "));
        }
    }
    let verdict = match report.verdict {
        Verdict::Passed => "passed: every promise was kept",
        Verdict::Failed => "FAILED: promises were broken",
        Verdict::Interrupted => "interrupted before the end; events may still be under way",
        Verdict::Error => "the run could not be carried out",
    };
    text + verdict + "\n"
}

fn checks(checks: &[CheckReport]) -> Table {
    let mut table = table(&["promise", "violations", ""]);
    for check in checks {
        let verdict = if check.passed { "kept" } else { "BROKEN" };
        table.add_row([check.check.title().to_owned(), check.violations.to_string(), verdict.into()]);
    }
    table
}

fn figures(figures: &Figures) -> Table {
    let mut table = table(&["figure", "p50", "p90", "p99", "p99.9", "max"]);
    let mut times = |name: &str, times: &Times| {
        let of = [times.p50_ms, times.p90_ms, times.p99_ms, times.p999_ms, times.max_ms];
        table.add_row(std::iter::once(name.to_owned()).chain(of.map(|millis| format!("{millis:.1} ms"))));
    };
    times("publish → receive", &figures.publish_to_receive);
    times("retry lateness", &figures.retry_lateness);
    let counts = [
        ("events confirmed", figures.confirmed),
        ("events delivered", figures.delivered),
        ("requests", figures.requests),
        ("events dead-lettered", figures.dead_lettered),
        ("sent again after a trouble", figures.sent_again_after_trouble),
    ];
    for (name, count) in counts {
        table.add_row([name.to_owned(), count.to_string()]);
    }
    table.add_row(["seconds".to_owned(), format!("{:.1}", figures.seconds)]);
    table.add_row(["delivered per second".to_owned(), format!("{:.0}", figures.delivered_per_second)]);
    table.add_row(["longest time without a 2xx".to_owned(), format!("{:.0} ms", figures.longest_silence_ms)]);
    table
}

fn seconds(millis: u64) -> String {
    format!("{}.{:03}", millis / 1_000, millis % 1_000)
}
