//! A setting that may stand in a file, as containers are given their secrets: `ONCEWARD_DATABASE_URL_FILE` for
//! `ONCEWARD_DATABASE_URL`. Official images call their variables the same way.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

/// No URL is longer; a device or a log that was named by mistake is not read to its end.
const LONGEST: u64 = 64 * 1024;

/// What a setting is, given by itself or in a file. A flag goes before a variable, as it does elsewhere.
///
/// # Errors
/// One line: it is given twice, or the file does not hold it. What the file holds is not shown.
pub(super) fn choose<P: TypedValueParser>(
    matches: &ArgMatches,
    name: &str,
    given: Option<P::Value>,
    file: Option<PathBuf>,
    parser: &P,
) -> Result<P::Value, clap::Error> {
    let source = |name: &str| matches.value_source(&name.replace('-', "_"));
    let sources = (source(name), source(&format!("{name}-file")));
    match (given, file, sources) {
        (Some(value), None, _) => Ok(value),
        (Some(value), Some(_), (Some(ValueSource::CommandLine), Some(ValueSource::EnvVariable))) => Ok(value),
        (None, Some(file), _) => read(name, &file, parser),
        (Some(_), Some(file), (Some(ValueSource::EnvVariable), Some(ValueSource::CommandLine))) => {
            read(name, &file, parser)
        }
        (given, ..) => {
            let variable = format!("ONCEWARD_{}", name.to_uppercase().replace('-', "_"));
            let what = if given.is_some() { "both given" } else { "both missing" };
            let message = format!("--{name} ({variable}) and --{name}-file ({variable}_FILE) are {what}: use one of them");
            Err(clap::Error::raw(ErrorKind::ArgumentConflict, message))
        }
    }
}

fn read<P: TypedValueParser>(name: &str, path: &Path, parser: &P) -> Result<P::Value, clap::Error> {
    let flag = format!("{name}-file");
    let refused = |why: &dyn std::fmt::Display| {
        clap::Error::raw(ErrorKind::ValueValidation, format!("--{flag} {}: {why}", path.display()))
    };
    let text = read_text(path).map_err(|error| refused(&error))?;
    match text.trim() {
        "" => Err(refused(&"the file is empty")),
        // A URL's reader would join the lines.
        text if text.contains('\n') => Err(refused(&"the file has more than one line")),
        text => {
            let arg = Arg::new("file").long(flag.clone()).value_name("FILE");
            parser.parse_ref(&Command::new("onceward"), Some(&arg), OsStr::new(text))
        }
    }
}

fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let bytes = File::open(path)?.take(LONGEST + 1).read_to_string(&mut text)?;
    if bytes as u64 > LONGEST {
        return Err(io::Error::other(format!("the file is larger than {LONGEST} bytes")));
    }
    Ok(text)
}
