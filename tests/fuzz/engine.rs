//! Runs a target: its corpus first, then mutations of it until the time is over.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use onceward::clock;

use crate::mutate::mutate;

/// How long a target runs unless it is told otherwise.
const SECONDS: u64 = 2;
/// One input that takes longer is a finding, too. The machine may have other things to do.
const SLOW: Duration = Duration::from_secs(8);
/// How long a finding is made smaller.
const SHRINK_WITHIN: Duration = Duration::from_secs(5);
/// Inputs of one outcome that are mutated further, beside the corpus.
const KEPT: u64 = 8;

/// What is fuzzed.
pub struct Target {
    /// Its name, and that of its directory in the corpus.
    pub name: &'static str,
    /// What its inputs are made of.
    pub words: &'static [&'static str],
    /// Gives an input to the code. What came of it, in a word; it panics if a promise is broken.
    pub run: fn(&[u8]) -> &'static str,
}

thread_local! {
    /// A panic is no news: the same input is tried again, smaller.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs a target.
///
/// # Panics
/// If an input breaks a promise, or a file of the corpus gives another outcome than its name says.
pub fn fuzz(target: &Target) {
    hush();
    let (time, seed) = (time(), seed());
    let mut corpus = Vec::new();
    for (outcome, path) in files(target.name) {
        let input = fs::read(&path).expect("a file of the corpus");
        let found = try_input(target, &input, &format!("the corpus's {}", path.display()));
        assert_eq!(found, outcome, "{}: its name says what has to come of it", path.display());
        corpus.push(input);
    }
    assert!(!corpus.is_empty(), "tests/fuzz/corpus/{} is empty", target.name);
    // Past the capture of the tests' output: it is to be seen how much was done, and if the process dies, with which seed.
    let _ = writeln!(std::io::stderr(), "fuzz {}: {} of the corpus, seed {seed}", target.name, corpus.len());
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    let (started, mut runs) = (clock::now(), 0);
    while clock::now().saturating_sub(started) < time {
        // A generator for each run: it can be said which one it was.
        let mut random = fastrand::Rng::with_seed(seed.wrapping_add(runs));
        let input = mutate(&mut random, &corpus, target.words);
        let outcome = try_input(target, &input, &format!("run {runs} of seed {seed}"));
        let count = outcomes.entry(outcome).or_default();
        *count += 1;
        if *count <= KEPT {
            corpus.push(input);
        }
        runs += 1;
    }
    let shown: Vec<_> = outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    let name = target.name;
    let _ = writeln!(std::io::stderr(), "fuzz {name}: {runs} runs, seed {seed}: {}", shown.join(", "));
}

/// Gives an input to a target; if that breaks a promise, says how to do it again.
fn try_input(target: &Target, input: &[u8], which: &str) -> &'static str {
    let started = clock::now();
    let ended = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    let took = clock::now().saturating_sub(started);
    let outcome = ended.unwrap_or_else(|_| {
        let small = shrink(target, input);
        panic!("{}: {which} breaks a promise.{}", target.name, save(target, &small));
    });
    assert!(took < SLOW, "{}: {which} takes {took:?}.{}", target.name, save(target, input));
    outcome
}

/// Writes a finding to a file; how to go on from there.
fn save(target: &Target, input: &[u8]) -> String {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    fs::create_dir_all(&directory).expect("a directory for what is found");
    let path = directory.join(target.name);
    fs::write(&path, input).expect("what is found can be written");
    let (path, name) = (path.display(), target.name);
    format!(
        "\nThe input is in {path}: {}\nTo run it again:\n  cp {path} tests/fuzz/corpus/{name}/OUTCOME--WHAT-IT-IS\n  \
         cargo test --locked --test fuzz {name}",
        input.escape_ascii()
    )
}

/// The same finding with less: pieces are left out as long as it goes on to fail.
fn shrink(target: &Target, input: &[u8]) -> Vec<u8> {
    QUIET.set(true);
    let (mut small, started) = (input.to_vec(), clock::now());
    let mut piece = small.len().div_ceil(2);
    while piece > 0 {
        let (before, mut at) = (small.len(), 0);
        while at < small.len() && clock::now().saturating_sub(started) < SHRINK_WITHIN {
            let end = small.len().min(at + piece);
            let without = [&small[..at], &small[end..]].concat();
            if catch_unwind(AssertUnwindSafe(|| (target.run)(&without))).is_err() {
                small = without;
            } else {
                at = end;
            }
        }
        if small.len() == before {
            piece /= 2;
        }
        piece = piece.min(small.len());
    }
    QUIET.set(false);
    small
}

fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let told = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                told(panic);
            }
        }));
    });
}

/// The files of a target's corpus, each with the outcome that its name says.
fn files(target: &str) -> Vec<(String, PathBuf)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let entries = fs::read_dir(&directory).expect("the target's directory in the corpus");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a file of the corpus").path()).collect();
    // As a directory has them they would be mutated in another order on another machine.
    paths.sort();
    let named = |path: PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let (outcome, _) = name.split_once("--").expect("a name OUTCOME--WHAT-IT-IS");
        (outcome.to_owned(), path)
    };
    paths.into_iter().map(named).collect()
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}, which is no number")))
}

fn time() -> Duration {
    Duration::from_secs(number("ONCEWARD_FUZZ_SECONDS").unwrap_or(SECONDS))
}

/// CI is calm: it gives the same inputs each time. Whoever lets it run for long looks for new ones.
fn seed() -> u64 {
    let is_long = number("ONCEWARD_FUZZ_SECONDS").is_some();
    number("ONCEWARD_FUZZ_SEED").unwrap_or_else(|| if is_long { fastrand::u64(..1_000_000_000) } else { 1 })
}
