//! Standard output, as every command writes to it: what can't be written fails the command, in one line.

use std::fmt::{Arguments, Display};
use std::io::{self, Write as _};

/// Nobody reads standard output any more, or there is no room for it.
#[derive(Debug, thiserror::Error)]
#[error("standard output: {0}")]
pub struct OutputError(#[from] io::Error);

/// Writes a line, at once.
///
/// # Errors
/// Why it could not be written.
pub fn line(text: impl Display) -> Result<(), OutputError> {
    write(format_args!("{text}\n"))
}

/// Writes a text that ends its lines itself.
///
/// # Errors
/// Why it could not be written.
pub fn text(text: &str) -> Result<(), OutputError> {
    write(format_args!("{text}"))
}

/// Writes what is no text for people.
///
/// # Errors
/// Why it could not be written.
pub fn bytes(bytes: &[u8]) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    Ok(stdout.write_all(bytes).and_then(|()| stdout.flush())?)
}

fn write(text: Arguments<'_>) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    Ok(stdout.write_fmt(text).and_then(|()| stdout.flush())?)
}
