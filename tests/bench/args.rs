//! What is measured, and how often.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use super::pipe::PipeArgs;
use super::receiver::ReceiverArgs;

/// Measures Onceward on this machine. Run it by deploy/bench, which starts the servers that it needs.
#[derive(Debug, Parser)]
#[command(name = "deploy/bench", max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub role: Option<Role>,
    #[command(flatten)]
    pub settings: Settings,
    /// The directory that deploy/servers has started the servers in
    #[arg(long, value_name = "DIR", hide = true, default_value = ".")]
    pub servers: PathBuf,
    /// Where bench.json and bench.svg are written
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub out: PathBuf,
    /// cargo says so to every benchmark
    #[arg(long, hide = true)]
    pub bench: bool,
}

/// What the figures depend on.
#[derive(Clone, Debug, Args, Serialize)]
pub struct Settings {
    /// What to measure [default: all of it]
    #[arg(value_enum, value_name = "SCENARIO")]
    pub scenarios: Vec<Scenario>,
    /// How often each is measured
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub runs: u32,
    /// Multiplies the numbers of events, for a try
    #[arg(long, default_value_t = 1.0, value_parser = scale)]
    pub scale: f64,
    /// Events a second, for latency [default: 10, 25 and 50 % of the speed of a drain]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,
    /// Queues that the events are spread over
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub partitions: u16,
    /// What the load is made from
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// The scenarios, in the order in which they are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    /// consume, POST, acknowledge, and no promise; in turns with drain
    Pipe,
    /// 200,000 events that wait in the broker
    Drain,
    /// from publish to receipt, at shares of the speed of a drain
    Latency,
    /// one event in a hundred fails at first
    Failures,
    /// one of ten hosts never answers
    Hanging,
    /// one entity has half of all events
    Hot,
    /// with metrics scraped and 1 % of the traces collected, and without
    Telemetry,
    /// ever more backlog, entities, hosts, payload, workers
    Growth,
    /// a million events that wait, and ten thousand
    Memory,
    /// ten million events that were delivered before, and none
    History,
}

/// The processes of a measurement are this program, too.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// The receiver
    #[command(name = "as-receiver", hide = true)]
    Receive(ReceiverArgs),
    /// The bare pipe
    #[command(name = "as-pipe", hide = true)]
    Pipe(PipeArgs),
}

impl Settings {
    /// Whether a scenario is to be measured.
    pub fn has(&self, scenario: Scenario) -> bool {
        self.scenarios.is_empty() || self.scenarios.contains(&scenario)
    }

    /// A number of events, scaled; enough of them to have a first and a last.
    pub fn scaled(&self, events: u32) -> u32 {
        ((f64::from(events) * self.scale) as u32).max(100)
    }
}

fn scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if (0.0001..=10.0).contains(&scale) => Ok(scale),
        _ => Err("write a number from 0.0001 to 10".into()),
    }
}
