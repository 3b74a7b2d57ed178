//! What is said of a value that is no number where one is wanted: what to write.

use std::error::Error as _;
use std::num::{ParseFloatError, ParseIntError};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};

/// The error, in words that say which number to write, if it is about one that can't be read.
pub(super) fn plain(error: Error, command: &Command) -> Error {
    let is_whole = match error.source() {
        Some(source) if source.is::<ParseIntError>() => true,
        Some(source) if source.is::<ParseFloatError>() => false,
        _ => return error,
    };
    let (name, value) = match (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue)) {
        (Some(ContextValue::String(name)), Some(ContextValue::String(value))) => (name.clone(), value.clone()),
        _ => return error,
    };
    let long = name.strip_prefix("--").and_then(|name| name.split(' ').next());
    let range = command.get_arguments().find(|arg| long.is_some() && arg.get_long() == long).and_then(range);
    let wanted = match (is_whole, range) {
        (true, Some((from, to))) => format!("write a whole number from {from} to {to}"),
        (true, None) => "write a whole number".to_owned(),
        (false, _) => "write a number".to_owned(),
    };
    let mut plain = Error::raw(ErrorKind::ValueValidation, format!("invalid value '{value}' for '{name}': {wanted}\n"));
    plain.insert(ContextKind::InvalidArg, ContextValue::String(name));
    plain
}

/// The least and the most that a flag takes. clap says so of a number that is out of its range.
fn range(arg: &Arg) -> Option<(String, String)> {
    let alone = Arg::new("number").long("number").value_parser(arg.get_value_parser().clone());
    let asked = Command::new("range").arg(alone).try_get_matches_from(["range", &format!("--number={}", i64::MAX)]);
    let told = asked.err()?.source()?.to_string();
    let (from, to) = told.rsplit_once(" is not in ")?.1.split_once("..")?;
    Some((from.to_owned(), to.trim_start_matches('=').to_owned()))
}
