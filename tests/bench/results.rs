//! What was measured: each figure with the values of all runs.

use std::path::Path;

use serde::Serialize;

use super::Fallible;
use super::args::Settings;
use super::cpu::Cpu;
use super::drain::{Drained, Who};
use super::servers::Machine;

/// A figure of a scenario, in one value for each run.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub scenario: &'static str,
    /// What is varied within the scenario; empty if nothing is.
    pub case: String,
    pub name: &'static str,
    pub unit: &'static str,
    pub values: Vec<f64>,
    pub median: f64,
    pub least: f64,
    pub most: f64,
    /// What a reader should notice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// The whole file.
#[derive(Serialize)]
pub struct Results {
    /// The form of this file; a change that readers have to know of counts it up.
    format: u32,
    machine: Machine,
    settings: Settings,
    pub figures: Vec<Figure>,
    /// Promises that were seen broken. A benchmark of a worker that breaks them is worth nothing.
    pub broken: Vec<String>,
}

/// The figures of a drain: name and unit.
pub const RATE: &str = "events per second";
pub const CPU: [&str; 5] = ["CPU broker", "CPU database", "CPU worker", "CPU receiver", "CPU in all"];
pub const START: &str = "start to first receipt";
pub const MEMORY: &str = "peak memory of a worker";

impl Results {
    pub fn new(machine: Machine, settings: Settings) -> Self {
        Self { format: 1, machine, settings, figures: Vec::new(), broken: Vec::new() }
    }

    /// One more value of a figure.
    pub fn add(&mut self, scenario: &'static str, case: &str, name: &'static str, unit: &'static str, value: f64) {
        let known = |figure: &Figure| figure.scenario == scenario && figure.case == case && figure.name == name;
        let at = self.figures.iter().position(known).unwrap_or_else(|| {
            let (values, case) = (Vec::new(), case.to_owned());
            let figure = Figure { scenario, case, name, unit, values, median: 0.0, least: 0.0, most: 0.0, note: None };
            self.figures.push(figure);
            self.figures.len() - 1
        });
        let figure = &mut self.figures[at];
        figure.values.push(value);
        let mut sorted = figure.values.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        figure.median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        (figure.least, figure.most) = (sorted[0], sorted[sorted.len() - 1]);
    }

    /// All figures of a drain, with `rate` for events a second.
    pub fn add_drain(&mut self, scenario: &'static str, case: &str, drained: &Drained, rate: f64, who: Who) {
        self.add(scenario, case, RATE, "1/s", rate);
        self.add_cpu(scenario, case, &drained.cpu);
        self.add(scenario, case, START, "s", drained.start);
        self.add(scenario, case, MEMORY, "MiB", drained.peak_mib);
        if who == Who::Onceward {
            self.hold_against_promises(scenario, case, drained);
        }
    }

    /// What an event costs.
    pub fn add_cpu(&mut self, scenario: &'static str, case: &str, cpu: &Cpu) {
        let of = [cpu.broker, cpu.database, cpu.workers, cpu.receiver, cpu.sum()];
        for (name, value) in CPU.into_iter().zip(of) {
            self.add(scenario, case, name, "µs/event", value);
        }
    }

    fn hold_against_promises(&mut self, scenario: &str, case: &str, drained: &Drained) {
        let report = &drained.report;
        for (count, what) in [(report.out_of_order, "out of order"), (report.again, "again after a 2xx")] {
            if count > 0 {
                self.broken.push(format!("{scenario} {case}: {count} events came {what}"));
            }
        }
    }

    /// The figure, if it was measured.
    pub fn get(&self, scenario: &str, case: &str, name: &str) -> Option<&Figure> {
        let known = |figure: &&Figure| figure.scenario == scenario && figure.case == case && figure.name == name;
        self.figures.iter().find(known)
    }

    /// Marks the figures of a scenario called `name` that differ from those of its case `base` by more than a `part`.
    pub fn mark_those_off(&mut self, scenario: &str, base: &str, name: &str, part: f64) {
        let Some(base) = self.get(scenario, base, name).map(|figure| figure.median) else { return };
        for figure in self.figures.iter_mut().filter(|figure| figure.scenario == scenario && figure.name == name) {
            let off = figure.median / base - 1.0;
            if base > 0.0 && off.abs() > part {
                figure.note = Some(format!("{:+.0} %", off * 100.0));
            }
        }
    }

    /// Writes `bench.json`.
    pub fn write(&self, dir: &Path) -> Fallible<()> {
        std::fs::create_dir_all(dir)?;
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(dir.join("bench.json"), text + "\n")?;
        Ok(())
    }

    pub fn heading(&self) -> String {
        let Machine { processor, cores, memory_gib, kernel, rabbitmq, postgresql, onceward } = &self.machine;
        format!(
            "Onceward {onceward} on {cores} cores of {processor}, {memory_gib:.0} GiB, Linux {kernel}; \
             RabbitMQ {rabbitmq}, PostgreSQL {postgresql}; {} partitions; median and spread of {} runs, \
             scale {}",
            self.settings.partitions, self.settings.runs, self.settings.scale
        )
    }
}
