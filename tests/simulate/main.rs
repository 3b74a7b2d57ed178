//! Whole clusters, simulated: every promise is kept, and rules that are left out are missed.

#![allow(clippy::print_stdout, reason = "what was found is for whoever runs it")]

use std::time::Duration;

use onceward::clock;
use onceward::simulator::rules::Rule;
use onceward::simulator::scenario::Scenario;
use onceward::simulator::shrink::shrink;
use onceward::simulator::{Run, run};

mod histories;

/// How long clusters are simulated, in seconds; `onceward-sim` does so for hours.
const SECONDS: &str = "ONCEWARD_SIMULATE_SECONDS";
/// The seed of the first one.
const SEED: &str = "ONCEWARD_SIMULATE_SEED";
/// Clusters that are simulated whatever time that takes.
const AT_LEAST: u64 = 100;
/// Clusters at most: the same ones each time, so that a failure here is news. Others are for `onceward-sim`.
const AT_MOST: u64 = 12_000;

/// A setting of whoever runs the tests.
#[expect(clippy::disallowed_methods, reason = "tests have no other settings")]
fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .map_or(otherwise, |value| value.parse().unwrap_or_else(|_| panic!("{name} is {value:?}: give a number")))
}

/// Lives through a cluster; shows the shortest history that breaks the same promise, if one is broken.
fn live_through(scenario: &Scenario) -> Run {
    let lived = run(scenario);
    if let Some(broken) = &lived.broken {
        let (shortest, broken) = shrink(scenario, broken.clone(), 500);
        panic!("a promise is broken:\n{shortest}{broken}");
    }
    lived
}

#[test]
fn whatever_happens_to_a_cluster_every_promise_is_kept_and_everything_comes_to_its_end() {
    let (began, within) = (clock::now(), Duration::from_secs(setting(SECONDS, 60)));
    let (first, mut clusters) = (setting(SEED, 1), 0);
    let (mut steps, mut time) = (0, Duration::ZERO);
    while clusters < AT_MOST && (clusters < AT_LEAST || clock::now().saturating_sub(began) < within) {
        let lived = live_through(&Scenario::of(first + clusters));
        (clusters, steps, time) = (clusters + 1, steps + lived.steps, time + lived.time);
    }
    let hours = time.as_secs_f64() / 3_600.0;
    println!(
        "{clusters} clusters, {steps} steps in {:?}, {hours:.1} hours of their time",
        clock::now().saturating_sub(began)
    );
}

#[test]
fn a_seed_always_makes_the_same_history() {
    for seed in 1..20 {
        let (once, again) = (run(&Scenario::of(seed)), run(&Scenario::of(seed)));
        assert_eq!((once.steps, once.time, once.broken), (again.steps, again.time, again.broken), "seed {seed}");
    }
}

/// Rules, and the seed of a cluster in which each is missed when it is left out. Where that changes, another seed is found by
/// `cargo run --release --example onceward-sim -- --without RULE`.
const MISSED: &[(Rule, u64)] = &[
    (Rule::Fence, 273),
    (Rule::VoidLeavesNothing, 1147),
    (Rule::OneKeyOneEvent, 3),
    (Rule::OneLineOneHome, 15),
    (Rule::NoteStrays, 15),
    (Rule::TellOfUnseen, 9_025_755),
    (Rule::ParkHeadsOnly, 4),
    (Rule::AdoptWhatIsInFlight, 127),
    (Rule::WaitUntilDue, 5482),
    (Rule::RedrivenGoFirst, 40),
    (Rule::KeepUnpublished, 2350),
    (Rule::ShareWhatIsLeft, 170),
    (Rule::WatchAWholeLease, 1),
    (Rule::WatchAnewAfterFailover, 20_050_200),
    (Rule::ShrinkBeforeTelling, 170),
    (Rule::AcknowledgeAfterCommit, 11),
    (Rule::AskWhenInDoubt, 11),
    (Rule::ResultsInOrder, 1),
    (Rule::SweepOverdue, 9),
    (Rule::SweepParked, 8),
    (Rule::SweepLetters, 15),
    (Rule::SweepAdrift, 80),
    (Rule::ConfirmLetters, 536),
    (Rule::DeadlineWithinLease, 3523),
    (Rule::ClockGoesOnSuspended, 3523),
    (Rule::WaitUntilAlone, 48_013),
    (Rule::ConsumeUnderLease, 448),
    (Rule::DrainBeforeRelease, 15),
    (Rule::HeedGates, 2),
    (Rule::ProbeShutHosts, 2),
];

#[test]
fn a_rule_that_is_left_out_is_missed() {
    assert!(MISSED.len() >= 20, "{} rules", MISSED.len());
    for (rule, seed) in MISSED {
        let scenario = Scenario { without: Some(*rule), ..Scenario::of(*seed) };
        assert!(run(&scenario).broken.is_some(), "{rule:?} is not missed by seed {seed}");
    }
}
