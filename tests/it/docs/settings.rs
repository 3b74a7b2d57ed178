//! `deploy/docs/settings.md` is held to the worker's command line: each flag once, with its variable, its default and what
//! it means.

use std::collections::BTreeSet;
use std::path::Path;

use clap::{Arg, Command};
use onceward::cli;

use super::markdown::Page;
use super::root;

const PAGE: &str = "deploy/docs/settings.md";
const HEAD: &str = "| flag | variable | default | what it sets |";

/// A line of the table: what is in backticks in its first two cells, and the text of the others.
struct Row {
    line: usize,
    flags: Vec<String>,
    variables: Vec<String>,
    default: String,
    meaning: String,
}

impl Row {
    fn read(line: usize, text: &str) -> Self {
        let cells: Vec<_> = text.trim().trim_matches('|').split('|').map(str::trim).collect();
        let [flags, variables, default, meaning] = cells[..] else {
            panic!("{PAGE}:{line}: not the four cells of {HEAD}: {text}")
        };
        let codes = |cell: &str| cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect();
        let (flags, variables) = (codes(flags), codes(variables));
        Self { line, flags, variables, default: default.replace('`', ""), meaning: meaning.into() }
    }

    /// The default of its flag at a place: each has its own, or one holds for all.
    fn default_at(&self, at: usize) -> &str {
        let defaults: Vec<_> = self.default.split(", ").collect();
        if self.flags.len() > 1 && defaults.len() == self.flags.len() { defaults[at] } else { &self.default }
    }
}

fn rows() -> Vec<Row> {
    let text = Page::read(root(), Path::new(PAGE)).text;
    let lines = text.lines().enumerate().skip_while(|(_, line)| *line != HEAD).skip(2);
    let rows: Vec<_> = lines.take_while(|(_, line)| line.starts_with('|')).collect();
    assert!(!rows.is_empty(), "{PAGE}: no table begins with {HEAD}");
    rows.into_iter().map(|(at, line)| Row::read(at + 1, line)).collect()
}

/// The flags of `onceward worker`.
fn arguments(worker: &Command) -> impl Iterator<Item = &Arg> {
    worker.get_arguments().filter(|argument| argument.get_long().is_some() && !argument.is_hide_set())
}

fn flag(argument: &Arg) -> String {
    format!("--{}", argument.get_long().expect("a flag"))
}

fn variable(argument: &Arg) -> Option<String> {
    argument.get_env().map(|name| name.to_string_lossy().into_owned())
}

fn help(argument: &Arg) -> String {
    argument.get_help().map(ToString::to_string).unwrap_or_default()
}

fn clap_default(argument: &Arg) -> Option<String> {
    let values: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    Some(values.join(",")).filter(|values| !values.is_empty())
}

/// The default as the help says it: clap's own, or what the text says in brackets where the program finds it out.
fn default(argument: &Arg) -> Option<String> {
    if let Some(values) = clap_default(argument) {
        return Some(values);
    }
    let help = help(argument);
    let (_, told) = help.rsplit_once("[default: ")?;
    let told = told.split(']').next().expect("it may be empty");
    (!told.starts_with("none") && !told.starts_with("nowhere")).then(|| told.to_owned())
}

fn default_is(argument: &Arg, told: &str) -> bool {
    match default(argument) {
        None => ["", "none"].contains(&told),
        Some(default) if clap_default(argument).is_none() => !told.is_empty() && default.contains(told),
        Some(default) => default == told,
    }
}

/// What a text is about: the beginnings of its longer words.
fn gist(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_alphabetic()).filter(|word| word.chars().count() >= 4);
    words.map(|word| word.chars().take(5).flat_map(char::to_lowercase).collect()).collect()
}

/// What is wrong with the row of a flag.
fn wrong(argument: &Arg, row: &Row) -> Vec<String> {
    let flag = flag(argument);
    let at = row.flags.iter().position(|named| *named == flag).expect("the row names it");
    let mut wrong = Vec::new();
    let (has, told) =
        (variable(argument).unwrap_or("none".into()), row.variables.get(at).map_or("none", String::as_str));
    if has != told {
        wrong.push(format!("the variable of {flag} is {has}, not {told}"));
    }
    let told = row.default_at(at);
    if !default_is(argument, told) {
        wrong.push(format!("the default of {flag} is {:?}, not {told:?}", default(argument).unwrap_or("none".into())));
    }
    let whole = format!("{} {}", row.default, row.meaning);
    for value in argument.get_possible_values() {
        let name = value.get_name();
        if !whole.contains(name) && !["true", "false"].contains(&name) {
            wrong.push(format!("{flag} may be {name:?}, and the row doesn't say so"));
        }
    }
    let (told, help) = (gist(&row.meaning), help(argument));
    if told.intersection(&gist(&help)).count() < told.len().min(2) && row.flags.len() == 1 {
        wrong.push(format!("{flag} is, by its help, {help:?}: tell it by some of the same words"));
    }
    wrong.into_iter().map(|what| format!("{PAGE}:{}: {what}", row.line)).collect()
}

#[test]
fn the_settings_page_is_the_command_line_of_the_worker() {
    let cli = cli::command();
    let worker = cli.find_subcommand("worker").expect("the worker's command");
    let rows = rows();
    let mut findings = Vec::new();
    let mut known = BTreeSet::new();
    for argument in arguments(worker) {
        let flag = flag(argument);
        let found: Vec<_> = rows.iter().filter(|row| row.flags.contains(&flag)).collect();
        match found[..] {
            [row] => findings.extend(wrong(argument, row)),
            [] => findings.push(format!(
                "{PAGE}: no line for {flag}; add one such as: | `{flag}` | `{}` | {} | {} |",
                variable(argument).unwrap_or_default(),
                default(argument).unwrap_or("none".into()),
                help(argument),
            )),
            _ => findings.push(format!("{PAGE}: {} lines for {flag}, and one is enough", found.len())),
        }
        known.insert(flag);
    }
    assert!(known.contains("--lease"), "the worker's flags were not found: {known:?}");
    for row in &rows {
        let unknown = row.flags.iter().filter(|flag| !known.contains(*flag));
        findings.extend(unknown.map(|flag| format!("{PAGE}:{}: the worker has no {flag}", row.line)));
    }
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}
