//! What a run shows: a bar while it lasts, tables at its end.

use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

use super::watch::Watch;
use crate::proof::check::Violation;
use crate::proof::figures::{Figures, HostileFigures, Times};
use crate::proof::report::{Report, Verdict};

/// A figure that there was nothing to measure for.
pub(crate) const NO_SAMPLE: &str = "no sample";
/// Violations of a check that are printed; the report lists more.
const PRINTED: usize = 5;

/// A bar over the events that have come to their end.
pub(super) fn bar(watch: &Watch) -> ProgressBar {
    let plan = &watch.load().plan;
    let bar = ProgressBar::new(u64::from(plan.events) + u64::from(plan.poison) + u64::from(plan.hostile));
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos}/{len} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar
}

/// Moves the bar, for ever.
pub(super) async fn advance(bar: &ProgressBar, watch: &Watch) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tick.tick().await;
        let [confirmed, delivered, dead, hostile, troubles] = watch.counts();
        bar.set_position((delivered + dead + hostile) as u64);
        let hostile = if hostile > 0 { format!("{hostile} hostile, ") } else { String::new() };
        bar.set_message(format!(
            "{confirmed} confirmed, {delivered} delivered, {dead} dead letters, {hostile}{troubles} troubles"
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
    let mut text = format!("{}\n\n{}\n\n", checks(report), figures(&report.figures));
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
                measured(process.cpu_micros_per_event, |micros| format!("{micros:.0}")),
                format!("{:.0}", process.peak_memory_mib),
            ]);
        }
        let _ = write!(text, "{table}\n\n");
    }
    for check in report.checks.iter().filter(|check| !check.passed) {
        let _ = writeln!(text, "{}:", check.check.title());
        for found in check.listed.iter().take(PRINTED) {
            let _ = writeln!(text, "  {}", violation(found));
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

/// What was found, and where to look as far as it is known.
fn violation(found: &Violation) -> String {
    let moments = [found.earlier_ms, found.later_ms].into_iter().flatten().map(seconds).collect::<Vec<_>>();
    let at = (!moments.is_empty()).then(|| format!("at {} s", moments.join(" and ")));
    let trace = found.trace_id.as_ref().filter(|id| !id.is_empty()).map(|id| format!("trace {id}"));
    let hints = [at, trace].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let event = found.key.as_ref().map_or_else(String::new, |key| format!("{key}: "));
    if hints.is_empty() { format!("{event}{}", found.what) } else { format!("{event}{} ({hints})", found.what) }
}

fn checks(report: &Report) -> Table {
    let mut table = table(&["promise", "violations", ""]);
    let kept = match report.verdict {
        Verdict::Passed | Verdict::Failed => "kept",
        Verdict::Interrupted | Verdict::Error => "kept so far",
    };
    for check in &report.checks {
        let verdict = if check.passed { kept } else { "BROKEN" };
        table.add_row([check.check.title().to_owned(), check.violations.to_string(), verdict.into()]);
    }
    table
}

fn figures(figures: &Figures) -> Table {
    let mut table = table(&["figure", "p50", "p90", "p99", "p99.9", "max"]);
    let mut times = |name: &str, times: &Option<Times>| {
        let of = |times: &Times| [times.p50_ms, times.p90_ms, times.p99_ms, times.p999_ms, times.max_ms];
        let cells = times.as_ref().map_or_else(
            || vec![NO_SAMPLE.to_owned()],
            |times| of(times).map(|millis| format!("{millis:.1} ms")).to_vec(),
        );
        table.add_row(std::iter::once(name.to_owned()).chain(cells));
    };
    times("publish → receive", &figures.publish_to_receive);
    times("retry lateness", &figures.retry_lateness);
    let mut counts = vec![
        ("events confirmed", figures.confirmed),
        ("events delivered", figures.delivered),
        ("requests", figures.requests),
        ("events dead-lettered", figures.dead_lettered),
        ("sent again after a trouble", figures.sent_again_after_trouble),
    ];
    let hostile = &figures.hostile;
    if *hostile != HostileFigures::default() {
        counts.extend([
            ("hostile messages confirmed", hostile.confirmed),
            ("hostile messages refused by the broker", hostile.refused),
            ("hostile messages delivered", hostile.delivered),
            ("hostile messages dead-lettered", hostile.dead_lettered),
        ]);
    }
    for (name, count) in counts {
        table.add_row([name.to_owned(), count.to_string()]);
    }
    let mut number = |name: &str, figure: Option<f64>, show: fn(f64) -> String| {
        table.add_row([name.to_owned(), measured(figure, show)]);
    };
    number("seconds", figures.seconds, |seconds| format!("{seconds:.1}"));
    number("delivered per second", figures.delivered_per_second, |rate| format!("{rate:.0}"));
    number("longest time without a 2xx", figures.longest_silence_ms, |millis| format!("{millis:.0} ms"));
    table
}

fn measured(figure: Option<f64>, show: fn(f64) -> String) -> String {
    figure.map_or_else(|| NO_SAMPLE.to_owned(), show)
}

fn seconds(millis: u64) -> String {
    format!("{}.{:03}", millis / 1_000, millis % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proof::check::Check;

    #[test]
    fn figures_without_a_sample_say_so() {
        let text = figures(&Figures::default()).to_string();
        let shown = |name: &str| text.lines().find(|line| line.contains(name)).unwrap_or_default().to_owned();
        for name in ["publish → receive", "retry lateness", "seconds", "per second", "without a 2xx"] {
            assert!(shown(name).contains(NO_SAMPLE), "{name}: {text}");
        }
        assert!(!text.contains("0.0"), "{text}");
    }

    #[test]
    fn a_violation_tells_what_is_known_of_it_and_no_more() {
        let found = |key: Option<&str>, earlier_ms, later_ms, trace: Option<&str>| {
            violation(&Violation {
                check: Check::NothingLost,
                key: key.map(Into::into),
                what: "gone".into(),
                earlier_ms,
                later_ms,
                trace_id: trace.map(Into::into),
            })
        };
        assert_eq!(
            found(Some("a-1"), Some(1_500), Some(2_000), Some("7f")),
            "a-1: gone (at 1.500 and 2.000 s, trace 7f)"
        );
        assert_eq!(found(Some("a-1"), None, Some(20), None), "a-1: gone (at 0.020 s)");
        assert_eq!(found(Some("a-1"), None, None, Some("7f")), "a-1: gone (trace 7f)");
        assert_eq!(found(None, None, None, Some("")), "gone");
    }
}
