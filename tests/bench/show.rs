//! The figures as tables.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};

use super::results::{CPU, Figure, MEMORY, RATE, Results, START};

/// Everything, for a terminal.
pub fn tables(results: &Results) -> String {
    let mut text = format!("\n{}\n\n", results.heading());
    let drains = drains(results);
    if drains.row_count() > 0 {
        let _ = writeln!(text, "CPU in µs an event, memory of the largest worker at its peak:\n{drains}\n");
    }
    let others = others(results);
    if others.row_count() > 0 {
        let _ = writeln!(text, "{others}\n");
    }
    for broken in &results.broken {
        let _ = writeln!(text, "BROKEN: {broken}");
    }
    text
}

/// A row for each case that drained events.
fn drains(results: &Results) -> Table {
    let mut table =
        table(&["", "", "events/s", "spread", "broker", "database", "worker", "receiver", "all", "start", "MiB"]);
    for rate in results.figures.iter().filter(|figure| figure.name == RATE) {
        let of = |name: &str| results.get(rate.scenario, &rate.case, name);
        let mut row = vec![rate.scenario.to_owned(), rate.case.clone(), number(rate.median), spread(rate)];
        row.extend(CPU.map(|name| of(name).map_or_else(String::new, with_note)));
        row.push(of(START).map_or_else(String::new, |start| format!("{:.1} s", start.median)));
        row.push(of(MEMORY).map_or_else(String::new, |memory| number(memory.median)));
        table.add_row(row);
    }
    align(table, 2)
}

/// A row for each other figure.
fn others(results: &Results) -> Table {
    let mut table = table(&["", "", "figure", "median", "spread", "unit"]);
    let is_shown = |name: &str| name == RATE || name == START || name == MEMORY || CPU.contains(&name);
    for figure in results.figures.iter().filter(|figure| !is_shown(figure.name)) {
        let [scenario, case, name] = [figure.scenario, &figure.case, figure.name].map(str::to_owned);
        table.add_row([scenario, case, name, with_note(figure), spread(figure), figure.unit.into()]);
    }
    align(table, 3)
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    table
}

/// Numbers stand on the right.
fn align(mut table: Table, texts: usize) -> Table {
    for column in table.column_iter_mut().skip(texts) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn with_note(figure: &Figure) -> String {
    let value = number(figure.median);
    figure.note.as_ref().map_or(value.clone(), |note| format!("{value} ({note})"))
}

fn spread(figure: &Figure) -> String {
    format!("{}–{}", number(figure.least), number(figure.most))
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
