//! `onceward-sim`: lives through one simulated cluster after the other, and prints the first history that breaks a promise,
//! as short as it can be made.

#![allow(clippy::print_stdout, reason = "what was found is for whoever runs it")]

use std::time::Duration;

use clap::Parser;
use onceward::clock;
use onceward::simulator::rules::Rule;
use onceward::simulator::scenario::Scenario;
use onceward::simulator::shrink::shrink;
use onceward::simulator::{Run, run};

/// Simulates clusters of workers, each from its seed, and holds what happens against the promises.
#[derive(Parser)]
#[command(name = "onceward-sim", max_term_width = 100)]
struct Args {
    /// The seed of the first cluster; those that follow count up from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Clusters at most.
    #[arg(long, default_value_t = u64::MAX, hide_default_value = true)]
    seeds: u64,
    /// Minutes at most.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// A rule to leave out, to see that it is missed: as --rules names them.
    #[arg(long)]
    without: Option<String>,
    /// Names the rules.
    #[arg(long)]
    rules: bool,
}

fn main() -> Result<(), String> {
    let args = Args::parse();
    if args.rules {
        for rule in Rule::ALL {
            println!("{rule:?}");
        }
        return Ok(());
    }
    let named = |name: String| {
        let rule = Rule::ALL.into_iter().find(|rule| format!("{rule:?}") == name);
        rule.ok_or_else(|| format!("there is no rule {name}: --rules names them"))
    };
    let without = args.without.map(named).transpose()?;
    let began = clock::now();
    let (mut clusters, mut steps, mut time) = (0_u64, 0, Duration::ZERO);
    while clusters < args.seeds && clock::now().saturating_sub(began).as_secs_f64() < args.minutes * 60.0 {
        let scenario = Scenario { without, ..Scenario::of(args.seed + clusters) };
        let Run { steps: taken, time: passed, broken } = run(&scenario);
        (clusters, steps, time) = (clusters + 1, steps + taken, time + passed);
        if let Some(broken) = broken {
            let (shortest, broken) = shrink(&scenario, broken, 2_000);
            println!("{shortest}{broken}");
            return Err(format!("a promise was broken by cluster {clusters}"));
        }
    }
    let took = clock::now().saturating_sub(began).as_secs_f64();
    println!(
        "{clusters} clusters, {steps} steps in {took:.1} s ({:.0} a second), {:.1} hours of their time: every promise was kept",
        f64::from(u32::try_from(steps).unwrap_or(u32::MAX)) / took,
        time.as_secs_f64() / 3_600.0
    );
    Ok(())
}
