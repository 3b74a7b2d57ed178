//! A file of destinations: what is accepted can be worked with, and what is refused has its place.

use std::path::Path;
use std::time::Duration;

use clap::Parser as _;
use onceward::cli::{Cli, Command};
use onceward::config::destinations::{Limits, read_sheet, settings};
use onceward::domain::destination::Destination;

use crate::engine::{Target, fuzz};

const LIMITS: Limits =
    Limits { lease: Duration::from_secs(15), drain_time: Duration::from_secs(30), max_in_flight: 2_048 };

/// What the flags of a worker are by default.
fn flags() -> Destination {
    let worker = ["onceward", "worker", "--amqp-url=amqp://broker", "--database-url=postgres://database/onceward"];
    match Cli::try_parse_from(worker) {
        Ok(Cli { command: Command::Worker(args) }) => args.defaults(),
        other => panic!("{other:?}"),
    }
}

fn run(input: &[u8]) -> &'static str {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz-destinations.toml");
    std::fs::write(&file, input).expect("a file");
    match read_sheet(&file, &flags(), LIMITS) {
        Ok(sheet) => {
            for destination in sheet.destinations.all() {
                let limits = (Duration::from_millis(10)..=Duration::from_secs(10), 1..=204);
                assert!(limits.0.contains(&destination.timeout), "{:?}", destination.timeout);
                assert!(destination.connections.is_none_or(|most| limits.1.contains(&most)), "{destination:?}");
                assert!(destination.rate.is_none_or(|rate| rate > 0.0 && rate.is_finite()), "{:?}", destination.rate);
                let longest = destination.policy.delays.after(u16::MAX, u64::MAX);
                assert!(longest <= Duration::from_hours(49), "{longest:?}");
                let shown = settings().iter().filter_map(|setting| setting.show(destination));
                assert!(shown.count() >= 20, "every setting is shown");
            }
            if sheet.counts == (0, 0) { "defaults" } else { "entries" }
        }
        Err(refused) => {
            let (lines, _) = refused.complaints();
            let begin = file.display().to_string();
            let is_whole = |line: &String| line.starts_with(&begin) && !line.chars().any(char::is_control);
            assert!((1..=20).contains(&lines.len()) && lines.iter().all(is_whole), "{lines:?}");
            "refused"
        }
    }
}

#[test]
fn destinations() {
    let words = &[
        "[defaults]\n",
        "[names.a]\nurl = 'http://a'\n",
        "[hosts.'*.b:1']\n",
        "backoff",
        "timeout = '10s'\n",
        "rate = 1\n",
        "false",
        "nan",
        "-0",
        "0x7f",
        "'''",
        "{ file = 'x' }",
        "{ variable = 'PATH' }",
        "[[",
        "]]",
        "\u{feff}",
        "1979-05-27",
        "99999999999999999999",
        "[::1]",
    ];
    fuzz(&Target { name: "destinations", words, run });
}
