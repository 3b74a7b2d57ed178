//! The rates and costs of all drains, drawn: a bar for each case, with its spread, and its CPU by process beside it.

use std::path::Path;

use svg::Document;
use svg::node::element::{Group, Line, Rectangle, Text, Title};

use super::Fallible;
use super::results::{CPU, Figure, RATE, Results};

const LABELS: f64 = 190.0;
const BARS: f64 = 330.0;
const GAP: f64 = 70.0;
const ROW: f64 = 22.0;
const TOP: f64 = 58.0;
const WIDTH: f64 = LABELS + BARS + GAP + BARS + GAP;
/// Okabe and Ito's colours, which people with any colour vision tell apart.
const COLOURS: [&str; 4] = ["#E69F00", "#56B4E9", "#009E73", "#999999"];

/// Writes `bench.svg`.
pub fn write(results: &Results, dir: &Path) -> Fallible<()> {
    let rates: Vec<&Figure> = results.figures.iter().filter(|figure| figure.name == RATE).collect();
    if rates.is_empty() {
        return Ok(());
    }
    let height = TOP + ROW * rates.len() as f64 + 12.0;
    let fastest = rates.iter().map(|rate| rate.most).fold(1.0, f64::max);
    let cpu = |rate: &Figure| CPU.map(|name| results.get(rate.scenario, &rate.case, name).map_or(0.0, |f| f.median));
    let dearest = rates.iter().map(|rate| cpu(rate)[4]).fold(1.0, f64::max);
    let mut document = Document::new()
        .set("viewBox", (0.0, 0.0, WIDTH, height))
        .set("width", WIDTH)
        .set("height", height)
        .set("font-family", "system-ui, sans-serif")
        .set("font-size", 12)
        .add(Rectangle::new().set("width", "100%").set("height", "100%").set("fill", "white"))
        .add(heading());
    for (row, rate) in rates.into_iter().enumerate() {
        let y = TOP + ROW * row as f64;
        document = document.add(label(rate, y)).add(bar(rate, y, fastest)).add(stack(cpu(rate), y, dearest));
    }
    std::fs::create_dir_all(dir)?;
    Ok(svg::save(dir.join("bench.svg"), &document)?)
}

fn heading() -> Group {
    let right = LABELS + BARS + GAP;
    let mut group = Group::new().add(text("events per second: median, least and most", LABELS, 20.0)).add(text(
        "CPU of an event in µs",
        right,
        20.0,
    ));
    for (at, (name, colour)) in ["broker", "database", "worker", "receiver"].into_iter().zip(COLOURS).enumerate() {
        let x = right + 84.0 * at as f64;
        let square = Rectangle::new().set("x", x).set("y", 31.0).set("width", 10).set("height", 10).set("fill", colour);
        group = group.add(square).add(text(name, x + 15.0, 40.0));
    }
    group
}

fn text(content: &str, x: f64, y: f64) -> Text {
    Text::new(content).set("x", x).set("y", y)
}

fn label(rate: &Figure, y: f64) -> Text {
    let name = format!("{} {}", rate.scenario, rate.case);
    text(name.trim(), LABELS - 8.0, y + 14.0).set("text-anchor", "end")
}

fn bar(rate: &Figure, y: f64, most: f64) -> Group {
    let x = |value: f64| LABELS + BARS * value / most;
    let middle = y + ROW / 2.0 - 1.0;
    let bar = Rectangle::new().set("x", LABELS).set("y", y + 3.0).set("height", ROW - 8.0).set("fill", "#0072B2");
    let spread = Line::new().set("x1", x(rate.least)).set("x2", x(rate.most)).set("y1", middle).set("y2", middle);
    Group::new()
        .add(bar.set("width", x(rate.median) - LABELS))
        .add(spread.set("stroke", "black").set("stroke-width", 2))
        .add(text(&format!("{:.0}", rate.median), x(rate.most) + 5.0, y + 14.0))
}

/// Four parts and, after them, their sum.
fn stack(cpu: [f64; 5], y: f64, most: f64) -> Group {
    let mut x = LABELS + BARS + GAP;
    let mut group = Group::new();
    for ((value, colour), name) in cpu.into_iter().zip(COLOURS).zip(CPU) {
        let width = BARS * value / most;
        let part = Rectangle::new().set("x", x).set("y", y + 3.0).set("width", width).set("height", ROW - 8.0);
        group = group.add(part.set("fill", colour).add(Title::new(format!("{name}: {value:.0} µs"))));
        x += width;
    }
    group.add(text(&format!("{:.0}", cpu[4]), x + 5.0, y + 14.0))
}
