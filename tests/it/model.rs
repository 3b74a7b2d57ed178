//! The model of the store is the store: random commands go to the real writer on a real PostgreSQL and to the model, and
//! answers and rows are the same.
//!
//! A sequence of commands has a seed, and begins with empty tables. It is made as it goes on, of what the model has then, so
//! that most commands mean something. Sequences are run for 45 s, or as long as is said:
//!
//! ```sh
//! ONCEWARD_MODEL_SECONDS=3600 deploy/test --test it model    # for an hour, with other sequences each time
//! ONCEWARD_MODEL_SEED=7 deploy/test --test it model          # the sequence of seed 7 first
//! ```
//!
//! What is not compared: how long something took or has to wait, beyond whether it is due; and what the store does with
//! commands that the engine never gives (two results of one attempt in one transaction, an attempt of an event that is not
//! the first of its line).

mod arrivals;
mod between;
mod both;
mod commands;
mod rows;
mod shown;
mod trial;

use std::io::Write as _;
use std::time::Duration;

use onceward::clock;
use onceward::simulator::rules::Rule;
use tokio::task::LocalSet;

use self::both::Both;
use self::trial::Trial;
use crate::support::{Load, World, test};

/// How long sequences are run unless something else is said.
const SECONDS: u64 = 30;
/// So many are run, however long it takes.
const LEAST: u64 = 200;
/// Among so many, there are answers of every kind.
const TELLING: u64 = 500;
/// A model without one of these rules is another store; so many sequences find that.
const ENOUGH: u64 = 400;

#[test]
fn the_model_of_the_store_is_the_store() {
    test(Load::Shared, async |world| {
        with_both(world, async |both| {
            let (time, first) = (Duration::from_secs(number("ONCEWARD_MODEL_SECONDS").unwrap_or(SECONDS)), seed());
            let (started, mut sequences, mut steps) = (clock::now(), 0, 0);
            while sequences < LEAST || clock::now().saturating_sub(started) < time {
                let ran = Trial::run(both, first + sequences, None).await;
                steps += ran.unwrap_or_else(|difference| panic!("{difference}"));
                sequences += 1;
            }
            let took = clock::now().saturating_sub(started).as_secs_f64();
            let seen: Vec<String> = both.seen.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            // Past the capture of the tests' output: it is to be seen how much was done.
            let _ = writeln!(
                std::io::stderr(),
                "model: {sequences} sequences of {steps} transactions and looks in {took:.0} s, from seed {first}: {}",
                seen.join(", ")
            );
            // A few sequences may do without the rare ones.
            let unseen: Vec<_> = shown::KINDS.iter().filter(|kind| !both.seen.contains_key(*kind)).collect();
            assert!(unseen.is_empty() || sequences < TELLING, "these answers never came: {unseen:?}");
        })
        .await;
    });
}

#[test]
fn a_model_that_is_wrong_is_found() {
    let wrong = [
        Rule::Fence,
        Rule::SettleWhatIsInFlight,
        Rule::VoidLeavesNothing,
        Rule::StartWhatIsKnown,
        Rule::BeginAfterTheOneBefore,
        Rule::OneKeyOneEvent,
        Rule::OneLineOneHome,
        Rule::NoteStrays,
        Rule::TellOfUnseen,
        Rule::ParkHeadsOnly,
        Rule::AdoptWhatIsInFlight,
        Rule::ParkedSleepOn,
        Rule::OldTokensAreVoid,
        Rule::WaitUntilDue,
        Rule::RedrivenGoFirst,
        Rule::DecisionsNameTheirFailure,
        Rule::LettersNameTheirFailure,
        Rule::KeepUnpublished,
        Rule::GoneIsGone,
        Rule::ClaimWhatWasSeen,
        Rule::ShareWhatIsLeft,
    ];
    test(Load::Shared, async |world| {
        with_both(world, async |both| {
            for rule in wrong {
                let mut sequences = 0;
                while Trial::run(both, sequences, Some(rule)).await.is_ok() {
                    sequences += 1;
                    assert!(sequences < ENOUGH, "{sequences} sequences have not found a model without {rule:?}");
                }
                if let Err(difference) = Trial::run(both, sequences, None).await {
                    panic!("whatever the model is without: {difference}");
                }
                println!("sequence {sequences} finds a model without {rule:?}");
            }
        })
        .await;
    });
}

/// Writers are tasks of the test's own thread: what is sent to one of them without waiting goes into one transaction.
async fn with_both(world: &World, body: impl AsyncFnOnce(&mut Both)) {
    let run = async {
        let mut both = Both::new(world).await;
        body(&mut both).await;
    };
    LocalSet::new().run_until(run).await;
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, which is no number")))
}

/// CI is calm: it runs the same sequences each time. Whoever lets them run for long looks for new ones.
fn seed() -> u64 {
    let is_long = number("ONCEWARD_MODEL_SECONDS").is_some();
    number("ONCEWARD_MODEL_SEED").unwrap_or_else(|| if is_long { fastrand::u64(..1_000_000_000) } else { 1 })
}
