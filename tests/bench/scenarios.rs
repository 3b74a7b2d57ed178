//! The scenarios: which measurements stand side by side, and what is told of them.

mod growth;
mod history;
mod latency;
mod memory;

use std::path::Path;

use super::args::Scenario;
use super::drain::{Drained, Spec, Who, drain};
use super::results::{RATE, Results};
use super::{Bench, Fallible, plot};

/// Events of a drain.
const EVENTS: u32 = 200_000;
/// Events of the scenario with a hot entity, whose events go one at a time.
const HOT_EVENTS: u32 = 40_000;

/// Measures what was asked for. The results are written after each scenario: a run takes long.
pub async fn run(bench: &Bench, results: &mut Results, out: &Path) -> Fallible<()> {
    let has = |scenario| bench.settings.has(scenario);
    if has(Scenario::Pipe) || has(Scenario::Drain) {
        pipe_and_drain(bench, results).await?;
    }
    for scenario in [
        Scenario::Latency,
        Scenario::Failures,
        Scenario::Hanging,
        Scenario::Hot,
        Scenario::Telemetry,
        Scenario::Growth,
        Scenario::Memory,
        Scenario::History,
    ] {
        results.write(out)?;
        plot::write(results, out)?;
        if !has(scenario) {
            continue;
        }
        match scenario {
            Scenario::Latency => latency::run(bench, results).await?,
            Scenario::Failures => failures(bench, results).await?,
            Scenario::Hanging => hanging(bench, results).await?,
            Scenario::Hot => hot(bench, results).await?,
            Scenario::Telemetry => telemetry(bench, results).await?,
            Scenario::Growth => growth::run(bench, results).await?,
            Scenario::Memory => memory::run(bench, results).await?,
            Scenario::History => history::run(bench, results).await?,
            Scenario::Pipe | Scenario::Drain => {}
        }
    }
    Ok(())
}

impl Bench {
    /// A drain with nothing special about it.
    fn plain(&self) -> Spec {
        Spec { events: self.settings.scaled(EVENTS), ..Spec::default() }
    }
}

/// One drain, with all of its figures.
async fn measure(
    bench: &Bench,
    results: &mut Results,
    (scenario, case, run): (&'static str, &str, u32),
    spec: &Spec,
) -> Fallible<Drained> {
    let title = bench.title(format!("{scenario} {case}").trim(), run);
    let drained = drain(bench, &title, spec).await?;
    results.add_drain(scenario, case, &drained, drained.rate(), spec.who);
    Ok(drained)
}

/// In turns, so that both meet the same machine.
async fn pipe_and_drain(bench: &Bench, results: &mut Results) -> Fallible<()> {
    let has = |scenario| bench.settings.has(scenario);
    for run in 0..bench.settings.runs {
        let mut rates = Vec::new();
        for (scenario, name, who) in
            [(Scenario::Pipe, "pipe", Who::BarePipe), (Scenario::Drain, "drain", Who::Onceward)]
        {
            if has(scenario) {
                let spec = Spec { who, ..bench.plain() };
                rates.push(measure(bench, results, (name, "", run), &spec).await?.rate());
            }
        }
        if let [pipe, drain] = rates[..] {
            results.add("drain", "", "speed against the bare pipe", "ratio", drain / pipe);
        }
    }
    Ok(())
}

/// The speed of a plain drain, measured now if it has not been before.
async fn drain_rate(bench: &Bench, results: &mut Results) -> Fallible<f64> {
    if let Some(rate) = results.get("drain", "", RATE) {
        return Ok(rate.median);
    }
    let spec = bench.plain();
    Ok(measure(bench, results, ("drain", "", 0), &spec).await?.rate())
}

async fn failures(bench: &Bench, results: &mut Results) -> Fallible<()> {
    for run in 0..bench.settings.runs {
        let spec = Spec { fail: 1, ..bench.plain() };
        let drained = measure(bench, results, ("failures", "", run), &spec).await?;
        results.add("failures", "", "attempts that failed", "events", drained.report.failed as f64);
    }
    Ok(())
}

/// The speed of nine hosts while the tenth answers, and while it takes requests and never answers.
async fn hanging(bench: &Bench, results: &mut Results) -> Fallible<()> {
    for run in 0..bench.settings.runs {
        let mut rates = Vec::new();
        for (case, last_hangs) in [("all ten answer", false), ("one hangs", true)] {
            let spec = Spec { hosts: 10, is_last_apart: true, last_hangs, ..bench.plain() };
            let drained = drain(bench, &bench.title(&format!("hanging {case}"), run), &spec).await?;
            let rate = drained.report.usual.rate();
            results.add_drain("hanging", case, &drained, rate, spec.who);
            rates.push(rate);
        }
        if let [healthy, hanging] = rates[..] {
            results.add("hanging", "", "speed of nine hosts while the tenth hangs", "ratio", hanging / healthy);
        }
    }
    Ok(())
}

async fn hot(bench: &Bench, results: &mut Results) -> Fallible<()> {
    for run in 0..bench.settings.runs {
        let spec = Spec { events: bench.settings.scaled(HOT_EVENTS), is_one_hot: true, ..bench.plain() };
        let drained = measure(bench, results, ("hot", "", run), &spec).await?;
        results.add("hot", "", "the others", "1/s", drained.report.usual.rate());
        results.add("hot", "", "the hot entity", "1/s", drained.report.special.rate());
    }
    Ok(())
}

async fn telemetry(bench: &Bench, results: &mut Results) -> Fallible<()> {
    for run in 0..bench.settings.runs {
        let mut measured = Vec::new();
        for (case, is_watched) in [("off", false), ("on", true)] {
            let spec = Spec { is_watched, ..bench.plain() };
            measured.push(measure(bench, results, ("telemetry", case, run), &spec).await?);
        }
        if let [off, on] = &measured[..] {
            let slower = (1.0 - on.rate() / off.rate()) * 100.0;
            results.add("telemetry", "", "cost in speed", "%", slower);
            results.add("telemetry", "", "cost in the worker's CPU", "µs/event", on.cpu.workers - off.cpu.workers);
        }
    }
    Ok(())
}
