//! `--config FILE`: a worker's settings in a file, by the names of their flags. What a flag or a variable says takes precedence.
//!
//! Each value is given to clap as the flag that it is named after, so that it is read, refused and explained as that flag.

use std::any::TypeId;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::Resettable::Reset;
use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args as _, Command, Parser};
use toml::de::{DeTable, DeValue};

use super::WorkerArgs;
use super::destinations::LONGEST_FILE;
use super::destinations::complaint::{self, Complaint, Complaints, Lines, Refused};
use super::destinations::value::shown;
use super::given::read_text;
use super::numbers;

/// The flag, and the variable.
const FLAG: &str = "config";
const VARIABLE: &str = "ONCEWARD_CONFIG";
/// Settings whose lists have commas between their parts.
const WITH_COMMAS: [&str; 6] = ["allow-host", "allow-net", "amqp-url", "deny-host", "final-statuses", "name-servers"];
/// Settings whose lists have spaces between their parts.
const WITH_SPACES: [&str; 1] = ["signing-secrets"];
/// How alike a name is that was meant; clap suggests flags by the same measure.
const ALIKE: f64 = 0.7;

/// Where a setting stands in the file, and what it says: as its flag would.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    text: OsString,
    line: usize,
    column: usize,
}

/// What was taken from a file: what no flag and no variable said, and what they override.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// The file, if there is one.
    file: Option<PathBuf>,
    entries: BTreeMap<String, Entry>,
    overridden: BTreeMap<String, Entry>,
}

impl Taken {
    /// The file, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// What each setting says that comes from the file, in the order of their names.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &OsStr)> {
        self.entries.iter().map(|(key, entry)| (key.as_str(), entry.text.as_os_str()))
    }

    /// What each setting of the file says that has no effect, because a flag or a variable says it.
    pub fn overridden(&self) -> impl Iterator<Item = (&str, &OsStr)> {
        self.overridden.iter().map(|(key, entry)| (key.as_str(), entry.text.as_os_str()))
    }

    /// A message about a setting, with the place where the file sets it, if it does.
    #[must_use]
    pub fn place(&self, message: &str) -> String {
        let key = message.split(|letter: char| letter.is_whitespace() || "'`(".contains(letter));
        let key = key.filter_map(|word| word.strip_prefix("--")).find_map(|word| {
            let end = word.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
            Some(&word[..end.unwrap_or(word.len())]).filter(|name| !name.is_empty())
        });
        match (key.and_then(|key| self.entries.get(key)), &self.file) {
            (Some(Entry { line, column, .. }), Some(file)) => format!("{}:{line}:{column}: {message}", file.display()),
            _ => message.to_owned(),
        }
    }
}

/// Why the command line and the file can't be used together.
#[derive(Debug)]
pub enum Wrong {
    /// As clap has it: also help that was asked for.
    Flags(clap::Error),
    /// Something is wrong in the file: one line.
    File(String),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flags(error) => write!(f, "{} (see --help for flags and variables)", one_line(error)),
            Self::File(message) => f.write_str(message),
        }
    }
}

/// The names of a worker's settings.
fn names() -> Vec<String> {
    let command = WorkerArgs::augment_args(Command::new("worker"));
    command.get_arguments().filter_map(|arg| arg.get_long().map(str::to_owned)).collect()
}

/// Whether a setting is not to be shown: it may hold a password.
#[must_use]
pub fn is_secret(key: &str) -> bool {
    let command = WorkerArgs::augment_args(Command::new("worker"));
    command.get_arguments().any(|arg| arg.get_long() == Some(key) && arg.is_hide_env_values_set())
}

/// Has each command that knows a setting of a worker take `--config`.
#[must_use]
pub fn offer(command: Command) -> Command {
    let names = names();
    offer_to(command, &names)
}

fn offer_to(command: Command, names: &[String]) -> Command {
    let command = command.mut_subcommands(|command| offer_to(command, names));
    let knows = command.get_arguments().filter_map(Arg::get_long).any(|flag| names.iter().any(|name| name == flag));
    if !knows {
        return command;
    }
    let help = "A file with a worker's settings, in TOML: host-connections = 50; flags and variables take precedence";
    let value = clap::value_parser!(PathBuf);
    command.arg(Arg::new(FLAG).long(FLAG).env(VARIABLE).value_name("FILE").help(help).value_parser(value))
}

/// Reads a command line, the variables, and the file that they name.
///
/// # Errors
/// What is wrong, or help that was asked for.
pub fn parse<T: Parser>(arguments: &[OsString]) -> Result<(T, Taken), Wrong> {
    parse_as(&offer(T::command()), arguments)
}

fn parse_as<T: Parser>(command: &Command, arguments: &[OsString]) -> Result<(T, Taken), Wrong> {
    // What is missing may be in the file.
    let first = command.clone().ignore_errors(true).try_get_matches_from(arguments).map_err(Wrong::Flags)?;
    let (depth, commands, matches) = innermost(command, &first);
    let named = matches.try_get_one::<PathBuf>(FLAG).ok().flatten();
    let taken = match named {
        Some(path) => take(path, commands, matches).map_err(Wrong::File)?,
        None => Taken::default(),
    };
    let mut all = arguments.to_vec();
    let given = taken.entries.iter().map(|(key, entry)| {
        let mut argument = OsString::from(format!("--{key}="));
        argument.push(&entry.text);
        argument
    });
    let at = all.len().min(depth + 1);
    all.splice(at..at, given);
    let read = command.clone().try_get_matches_from(all).and_then(|mut matches| T::from_arg_matches_mut(&mut matches));
    match read {
        Ok(read) => Ok((read, taken)),
        Err(error) => {
            let error = numbers::plain(error, commands);
            Err(of_file(&error, &taken).map_or(Wrong::Flags(error), Wrong::File))
        }
    }
}

/// How many commands deep a command line goes, the last of them, and what is said to it.
fn innermost<'a>(command: &'a Command, matches: &'a ArgMatches) -> (usize, &'a Command, &'a ArgMatches) {
    let (mut depth, mut command, mut matches) = (0, command, matches);
    while let Some((name, below)) = matches.subcommand()
        && let Some(inner) = command.find_subcommand(name)
    {
        (depth, command, matches) = (depth + 1, inner, below);
    }
    (depth, command, matches)
}

/// The error in one line with its place, if it is about a value of the file.
fn of_file(error: &clap::Error, taken: &Taken) -> Option<String> {
    let message = one_line(error);
    let about = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) => flag.clone(),
        Some(ContextValue::Strings(flags)) => flags.first()?.clone(),
        _ => message.clone(),
    };
    let placed = taken.place(&about);
    placed
        .strip_suffix(&about)
        .filter(|place| !place.is_empty())
        .map(|place| complaint::one_line(&format!("{place}{message}")))
}

/// What is wrong, without clap's paragraphs on usage.
fn one_line(error: &clap::Error) -> String {
    let message = error.to_string();
    let paragraph = message.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Reads the file: what the command knows, and neither a flag nor a variable says.
fn take(path: &Path, command: &Command, said: &ArgMatches) -> Result<Taken, String> {
    let entries = read(path).map_err(|refused| {
        let (lines, more) = refused.complaints();
        match lines.len() - 1 + more {
            0 => lines[0].clone(),
            more => format!("{} (and {more} more)", lines[0]),
        }
    })?;
    let of = |key: &str| command.get_arguments().find(|arg| arg.get_long() == Some(key));
    let is_said = |key: &str| {
        let source = of(key).and_then(|arg| said.value_source(arg.get_id().as_str()));
        matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
    };
    let known = entries.into_iter().filter(|(key, _)| of(key).is_some());
    let (overridden, mut entries): (BTreeMap<_, _>, BTreeMap<_, _>) = known.partition(|(key, _)| {
        // A URL and the file that holds one are the same setting.
        let other = key.strip_suffix("-file").map_or_else(|| format!("{key}-file"), str::to_owned);
        is_said(key) || is_said(&other)
    });
    for (key, Entry { text, line, column }) in &overridden {
        if let Some(arg) = of(key) {
            judge(arg, key, text).map_err(|wrong| format!("{}:{line}:{column}: {wrong}", path.display()))?;
        }
    }
    for (key, entry) in &mut entries {
        // As in a file of destinations, paths are meant from where the file is.
        if of(key).is_some_and(|arg| arg.get_value_parser().type_id() == TypeId::of::<PathBuf>())
            && !entry.text.is_empty()
        {
            let directory = path.parent().unwrap_or(Path::new(""));
            entry.text = directory.join(&entry.text).into_os_string();
        }
    }
    Ok(Taken { file: Some(path.to_owned()), entries, overridden })
}

/// Whether a flag would take a value that has no effect: once the flag or the variable goes, it has.
fn judge(arg: &Arg, key: &str, text: &OsStr) -> Result<(), String> {
    let mut argument = OsString::from(format!("--{key}="));
    argument.push(text);
    let alone =
        arg.clone().required(false).required_unless_present(Reset).requires(Reset).conflicts_with(Reset).env(Reset);
    let command = Command::new("worker").arg(alone);
    let read = command.clone().try_get_matches_from([OsString::from("worker"), argument]);
    read.map(drop).map_err(|error| complaint::one_line(&one_line(&numbers::plain(error, &command))))
}

/// Every setting of the file.
fn read(path: &Path) -> Result<BTreeMap<String, Entry>, Refused> {
    let file = path.display().to_string();
    let whole = |what: String| Refused::whole(&file, &what);
    let text = read_text(path, LONGEST_FILE).map_err(whole)?;
    if text.trim().is_empty() {
        return Err(whole("it is empty: write settings, such as host-connections = 50, or leave --config out".into()));
    }
    let (table, wrong) = DeTable::parse_recoverable(&text);
    let wrong = wrong.iter().map(|wrong| Complaint {
        at: wrong.span().map_or(0, |span| span.start),
        what: format!("{}: this is not TOML (https://toml.io)", wrong.message()),
    });
    let mut complaints: Complaints = wrong.collect();
    let (lines, names) = (Lines::new(&text), names());
    let mut entries = BTreeMap::new();
    if complaints.is_empty() {
        for (key, value) in table.get_ref() {
            let name = key.get_ref().as_ref();
            let at = key.span().start;
            let entry = known(name, &names).map_err(|what| Complaint { at, what }).and_then(|()| {
                value_text(name, value.get_ref()).map_err(|what| Complaint { at: value.span().start, what })
            });
            if let Some(text) = complaints.note(entry) {
                let (line, column) = lines.position(value.span().start);
                entries.insert(name.to_owned(), Entry { text: text.into(), line, column });
            }
        }
    }
    if complaints.is_empty() { Ok(entries) } else { Err(complaints.refuse(&file, &lines)) }
}

/// Whether a worker has such a setting.
fn known(key: &str, names: &[String]) -> Result<(), String> {
    if names.iter().any(|name| name == key) {
        return Ok(());
    }
    let key_shown = shown(key);
    if key == FLAG {
        return Err(format!("{key_shown}: a file of settings names no other one: write the settings themselves"));
    }
    if matches!(key, "defaults" | "names" | "hosts") {
        return Err(format!(
            "{key_shown} belongs in a file of destinations: name that file here, destinations = \"FILE\""
        ));
    }
    if matches!(key, "log" | "log-format") || key.starts_with("otel") {
        return Err(format!(
            "{key_shown} is not a setting here: logs and traces are set by variables alone (ONCEWARD_LOG, …)"
        ));
    }
    let alike = names.iter().map(|name| (strsim::jaro(key, name), name)).filter(|(alike, _)| *alike > ALIKE);
    let nearest = alike.max_by(|one, other| one.0.total_cmp(&other.0));
    Err(match nearest {
        Some((_, name)) => format!("{key_shown} is not a setting of a worker: did you mean {name}?"),
        None => {
            format!("{key_shown} is not a setting of a worker: `onceward worker --help` lists them, without the dashes")
        }
    })
}

/// What a value says, as its flag would. What it says is not repeated: it may be secret.
fn value_text(key: &str, value: &DeValue<'_>) -> Result<String, String> {
    let separator = if WITH_COMMAS.contains(&key) {
        Some(",")
    } else if WITH_SPACES.contains(&key) {
        Some(" ")
    } else {
        None
    };
    match (value, separator) {
        (DeValue::Array(items), Some(" ")) if items.is_empty() => {
            Err(format!("this list is empty: leave {key} out, or write what it is to hold"))
        }
        (DeValue::Array(items), Some(separator)) => {
            let texts = items.iter().map(|item| scalar(item.get_ref())).collect::<Result<Vec<_>, _>>()?;
            Ok(texts.join(separator))
        }
        (DeValue::Array(_), None) => Err(format!("this is a list, and {key} is one value: write that")),
        _ => scalar(value),
    }
}

fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        // No flag and no variable can say it, and PostgreSQL has no text with it.
        DeValue::String(text) if text.contains('\0') => Err("this text has a character \\u0000: leave that out".into()),
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| "this number is out of all bounds".to_owned()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Ok(truth.to_string()),
        DeValue::Datetime(_) => Err("this is a date or a time of day: write text in quotes".into()),
        DeValue::Array(_) => Err("this is a list in a list: write one list".into()),
        DeValue::Table(_) => Err("this is a table: settings stand one a line, without [headings] or dots".into()),
    }
}

#[cfg(test)]
mod tests;
