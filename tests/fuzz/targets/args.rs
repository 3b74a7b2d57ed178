//! Settings: what is accepted can be worked with.

use std::time::Duration;

use clap::Parser as _;
use onceward::cli::{Cli, Command};
use onceward::config::WorkerArgs;
use onceward::domain::backoff::Delays;
use onceward::domain::verdict::{Attempts, Decision, NotSent, Outcome};

use super::text;
use crate::engine::{Target, fuzz};

/// One argument a line; those that every worker needs stand before them.
fn run(input: &[u8]) -> &'static str {
    let lines: Vec<String> = input.split(|byte| *byte == b'\n').map(text).collect();
    let servers = ["--amqp-url=amqp://broker", "--database-url=postgres://database/onceward"];
    let own: &[&str] = if lines[0] == "worker" { &servers } else { &[] };
    let args =
        ["onceward", &*lines[0]].into_iter().chain(own.iter().copied()).chain(lines[1..].iter().map(String::as_str));
    match Cli::try_parse_from(args) {
        Ok(Cli { command: Command::Worker(args) }) => match args.validate() {
            Ok(()) => worked_with(&args),
            Err(why) => {
                assert!(!why.is_empty() && !why.contains('\n'), "one line: {why:?}");
                "invalid"
            }
        },
        Ok(_) => "another",
        Err(error) => {
            assert!(!error.to_string().is_empty());
            "refused"
        }
    }
}

fn worked_with(args: &WorkerArgs) -> &'static str {
    let (policy, terms) = (args.policy(), args.terms());
    assert!(terms.body_limit > 0 && !args.name().is_empty());
    assert!(policy.final_statuses.iter().all(|status| (300..600).contains(status)));
    // The clocks that times are added to.
    let day = Duration::from_hours(24 * 365 * 100);
    for time in [args.lease, args.attempt_timeout, args.drain_time, args.retention, args.backoff_max] {
        assert!(day.checked_add(time * 3).is_some_and(|sum| i64::try_from(sum.as_micros()).is_ok()), "{time:?}");
    }
    let Delays::Growing(backoff) = &policy.delays else { panic!("flags give delays that grow") };
    let most = backoff.max.max(policy.retry_after_max).mul_f64(1.0 + backoff.jitter) + Duration::from_millis(100);
    let failed = |retry_after| Outcome::Response { status: 503, retry_after, excerpt: String::new() };
    for begun in [1, 2, 10, 999, u16::MAX] {
        for outcome in [
            failed(None),
            failed(Some(Duration::MAX)),
            Outcome::Unknown,
            Outcome::NotSent(NotSent::Shortage(String::new())),
        ] {
            match policy.judge(Attempts { begun, unknown: begun / 2 }, &outcome, u64::MAX) {
                Decision::Retry(delay) => assert!(delay <= most, "{delay:?} of {most:?}"),
                Decision::Withdraw(_) | Decision::Fail(_) | Decision::Hold(_) => {}
                Decision::Deliver => panic!("{outcome:?} delivers nothing"),
            }
        }
    }
    "valid"
}

#[test]
fn args() {
    let words = &[
        "\n--lease=20s",
        "\n--retention=2h",
        "\n--backoff-max=1h",
        "\n--backoff-initial=2s",
        "\n--backoff-factor=3",
        "\n--attempt-timeout=1s",
        "\n--drain-time=1m",
        "\n--final-statuses=410",
        "\n--default-destination\n",
        "\n--admin-listen=off",
        "\n--first-sequence\nany",
        "400,410-422",
        "ms",
        "s",
        "years",
        "days",
        "1e999",
        "nan",
        "inf",
        "0.1",
        "[::]:9464",
        "off",
        "\n--exchange\n",
        "\n--name\n",
        "\n--max-attempts=9",
        "\n--host-connections=7",
    ];
    fuzz(&Target { name: "args", words, run });
}
