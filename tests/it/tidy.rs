//! The house stays tidy: who may import whom, how long things are, and what is not left lying about.

use std::fs;
use std::path::{Path, PathBuf};

mod circles;
mod code;

const LONGEST_FUNCTION: usize = 70;
const LONGEST_FILE: usize = 500;
const LONGEST_MEDIAN: usize = 200;

/// They meet in `app`, and nowhere else.
const STAGES: [&str; 8] = ["announce", "deliver", "dispatch", "gates", "intake", "ownership", "rescue", "writer"];

/// The arrows of the house: which rooms a room may import, besides itself.
fn may_import(room: &str) -> Option<&'static [&'static str]> {
    Some(match room {
        "main" => &["app", "cli", "commands", "telemetry"],
        "cli" => &["commands", "config"],
        "admin" => &["config", "health", "telemetry"],
        "destinations" => &["config", "domain", "service", "store", "telemetry"],
        "service" => &["clock", "config", "health"],
        "census" => &["clock", "domain", "lease", "store", "telemetry"],
        "health" => &["clock", "standstill"],
        "standstill" => &["clock"],
        "lib" | "domain" | "clock" => &[],
        "telemetry" => &["clock", "config", "domain"],
        "reconnect" => &["clock", "domain"],
        "config" | "engine" | "proof" => &["domain"],
        "lease" => &["clock", "domain", "engine"],
        "broker" => &["clock", "config", "domain", "reconnect", "telemetry"],
        "simulator" => &["domain", "engine", "handoff", "lease", "proof", "store", "writer"],
        "store" => &["config", "domain", "engine", "handoff", "lease"],
        "handoff" => &["domain", "engine", "lease"],
        "commands" => &["broker", "clock", "config", "domain", "proof", "reconnect", "store", "telemetry"],
        stage if STAGES.contains(&stage) => &[
            "broker",
            "clock",
            "config",
            "domain",
            "handoff",
            "health",
            "engine",
            "lease",
            "reconnect",
            "standstill",
            "store",
            "telemetry",
        ],
        _ => return None,
    })
}

/// What the rules, being pure, know nothing of: names of crates, and of what reads a clock or the environment.
const IMPURE: [&str; 10] =
    ["axum", "env", "lapin", "opentelemetry", "reqwest", "sqlx", "tokio", "tracing", "Instant", "SystemTime"];

/// A file of the crate: its path below the crate's directory, and its text.
struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The modules from the crate's root down to the file; none for a file that is not below `src`.
    fn modules(&self) -> Option<Vec<&str>> {
        let path = self.path.strip_prefix("src/")?;
        let path = path.strip_suffix("/mod.rs").or_else(|| path.strip_suffix(".rs"))?;
        Some(path.split('/').collect())
    }

    fn lines(&self) -> usize {
        self.text.lines().count()
    }
}

/// One finding: file, line and rule.
fn finding(source: &Source, line: usize, rule: &str) -> String {
    format!("{}:{line}: {rule}", source.path)
}

/// Everything in a file that breaks a rule.
fn findings(source: &Source) -> Vec<String> {
    let code = code::code_only(&source.text);
    [arrows(source, &code), impurities(source, &code), leftovers(source, &code), sizes(source, &code)].concat()
}

fn arrows(source: &Source, code: &str) -> Vec<String> {
    let Some(modules) = source.modules() else { return Vec::new() };
    let room = modules[0];
    if room == "app" {
        return Vec::new();
    }
    let Some(allowed) = may_import(room) else {
        return vec![finding(
            source,
            1,
            &format!("the room `{room}` has no arrows yet: say in may_import what it imports"),
        )];
    };
    let depth = if matches!(room, "main" | "lib") { 0 } else { modules.len() };
    let named = code::rooms_named(code, depth).into_iter();
    let wrong = named.filter(|(_, named)| *named != room && !allowed.contains(named));
    wrong
        .map(|(at, named)| {
            let why = match (STAGES.contains(&room), STAGES.contains(&named)) {
                (true, true) => "stages meet only in `app`",
                (false, true) => "only `app` wires stages together",
                _ => "the arrows of the house point the other way",
            };
            finding(source, code::line(code, at), &format!("`{room}` imports `{named}`: {why}"))
        })
        .collect()
}

fn impurities(source: &Source, code: &str) -> Vec<String> {
    let Some(room @ ("domain" | "engine")) = source.modules().map(|modules| modules[0]) else { return Vec::new() };
    let is_impure = |word: &str| {
        // A crate's companions count as the crate: tokio_util.
        IMPURE
            .iter()
            .any(|impure| word.strip_prefix(impure).is_some_and(|rest| rest.is_empty() || rest.starts_with('_')))
    };
    let impure = code::words(code).filter(|(_, word)| is_impure(word));
    impure.map(|(at, word)| finding(source, code::line(code, at), &format!("`{room}` is pure: no `{word}`"))).collect()
}

fn leftovers(source: &Source, code: &str) -> Vec<String> {
    let rules = [
        ("todo!", "is not done"),
        ("unimplemented!", "is not done"),
        ("dbg!", "is for the moment only"),
        ("#[ignore", "is a test that tests nothing"),
    ];
    let found = rules.iter().flat_map(|(text, why)| {
        code.match_indices(text).map(move |(at, _)| finding(source, code::line(code, at), &format!("`{text}` {why}")))
    });
    found.collect()
}

fn sizes(source: &Source, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    if !source.text.starts_with("//!") {
        found.push(finding(source, 1, "a file begins by saying what it is for: `//! …`"));
    }
    if source.lines() > LONGEST_FILE {
        let rule = format!("the file has {} lines; {LONGEST_FILE} are the most", source.lines());
        found.push(finding(source, LONGEST_FILE + 1, &rule));
    }
    for function in code::functions(code).iter().filter(|function| function.lines > LONGEST_FUNCTION) {
        let rule = format!("`{}` has {} lines; {LONGEST_FUNCTION} are the most", function.name, function.lines);
        found.push(finding(source, function.line, &rule));
    }
    found
}

/// All files of the crate.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for directory in ["src", "tests"] {
        collect(&root.join(directory), &mut paths);
    }
    paths.sort();
    let read = |path: PathBuf| Source {
        path: path.strip_prefix(root).expect("it was found below").to_string_lossy().replace('\\', "/"),
        text: fs::read_to_string(&path).expect("a source file is text"),
    };
    paths.into_iter().map(read).collect()
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of the crate") {
        let path = entry.expect("an entry of the crate").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

#[test]
fn the_house_is_tidy() {
    let sources = sources();
    assert!(sources.iter().any(|source| source.path == "src/engine/lanes.rs"), "the sources were not found");
    let found: Vec<_> = sources.iter().flat_map(findings).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn files_are_short_at_the_median() {
    let mut lengths: Vec<_> = sources().iter().map(Source::lines).collect();
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= LONGEST_MEDIAN, "the median file has {median} lines; {LONGEST_MEDIAN} are the most: split some");
}

/// What is found in a file that begins as it should.
fn found_in(path: &str, code: &str) -> Vec<String> {
    findings(&Source { path: path.into(), text: format!("//! What it is for.\n{code}") })
}

#[test]
fn each_rule_finds_what_breaks_it() {
    let long = format!("fn long() {{\n{}}}", "a();\n".repeat(LONGEST_FUNCTION));
    let table = [
        ("src/domain/lease.rs", "use tokio::sync::Notify;", "`domain` is pure: no `tokio`"),
        ("src/domain/lease.rs", "use tokio_util::task;", "`domain` is pure: no `tokio_util`"),
        ("src/domain/lease.rs", "use std::time::{Duration, Instant};", "`domain` is pure: no `Instant`"),
        ("src/domain/lease.rs", "fn f() { std::env::var(\"A\"); }", "`domain` is pure: no `env`"),
        ("src/domain/lease.rs", "use crate::store::Lease;", "`domain` imports `store`: the arrows"),
        ("src/domain/lease.rs", "use super::super::store::Lease;", "`domain` imports `store`: the arrows"),
        ("src/domain/lease.rs", "use super::super::*;", "`domain` imports `*`: the arrows"),
        ("src/engine/hosts.rs", "use crate::store::Lease;", "`engine` imports `store`: the arrows"),
        ("src/engine/hosts.rs", "use std::time::Instant;", "`engine` is pure: no `Instant`"),
        ("src/broker/mod.rs", "use crate::intake::Reader;", "`broker` imports `intake`: only `app` wires"),
        ("src/store/line.rs", "use crate::app;", "`store` imports `app`: the arrows"),
        ("src/store/mod.rs", "use super::broker::Token;", "`store` imports `broker`: the arrows"),
        (
            "src/intake/reader.rs",
            "use crate::{domain, announce::Announcer};",
            "`intake` imports `announce`: stages meet",
        ),
        ("src/deliver.rs", "fn f() { super::dispatch::f() }", "`deliver` imports `dispatch`: stages meet"),
        ("src/main.rs", "use onceward::store::Lease;", "`main` imports `store`: the arrows"),
        ("src/attic.rs", "", "the room `attic` has no arrows yet"),
        ("src/app.rs", "fn f() { todo!() }", "`todo!` is not done"),
        ("src/app.rs", "fn f() { unimplemented!() }", "`unimplemented!` is not done"),
        ("src/app.rs", "fn f() { dbg!(1); }", "`dbg!` is for the moment only"),
        ("tests/it/order.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}", "`#[ignore` is a test that tests nothing"),
        ("tests/it/order.rs", &long, "`long` has 72 lines; 70 are the most"),
        ("src/app.rs", &"\n".repeat(LONGEST_FILE), "the file has 501 lines; 500 are the most"),
    ];
    for (path, code, rule) in table {
        let found = found_in(path, code);
        assert!(found.len() == 1 && found[0].starts_with(path) && found[0].contains(rule), "{path} {code}: {found:?}");
    }
    let without = Source { path: "src/app.rs".into(), text: "fn f() {}".into() };
    assert_eq!(findings(&without), ["src/app.rs:1: a file begins by saying what it is for: `//! …`"]);
}

#[test]
fn a_finding_names_the_line() {
    let found = found_in("src/announce.rs", "\nuse crate::domain::event::Event;\nuse crate::rescue::Rescue;");
    assert_eq!(found, ["src/announce.rs:4: `announce` imports `rescue`: stages meet only in `app`"]);
}

#[test]
fn what_keeps_the_rules_is_not_found() {
    let table = [
        (
            "src/domain/lanes.rs",
            "use super::event::Event;\nuse crate::domain::poison;\n// tokio, Instant, crate::store",
        ),
        ("src/domain/lease.rs", "mod tests { use super::super::event::Event; use super::*; }"),
        ("src/app.rs", "use crate::{announce, broker, deliver, dispatch, domain, intake, store};"),
        ("src/announce.rs", "use crate::{broker, domain, handoff, store};\n/// See [`crate::app`].\nfn f() {}"),
        ("src/main.rs", "use onceward::{app, cli, commands, telemetry};"),
        ("tests/it/order.rs", "use onceward::store;\nfn f() { let text = \"todo!() #[ignore]\"; }"),
    ];
    for (path, code) in table {
        assert_eq!(found_in(path, code), [""; 0], "{path} {code}");
    }
}
