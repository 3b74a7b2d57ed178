//! A setting that may stand in a file, as containers are given their secrets: `ONCEWARD_DATABASE_URL_FILE` for
//! `ONCEWARD_DATABASE_URL`. Official images call their variables the same way.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

/// No URL is longer; a device or a log that was named by mistake is not read to its end.
const LONGEST: u64 = 64 * 1024;

/// The flags of a setting: the one that takes it, and the one that names the file.
pub(super) struct Flags {
    pub(super) itself: &'static str,
    pub(super) file: &'static str,
}

impl Flags {
    /// What the setting is. A flag goes before a variable, as it does elsewhere.
    ///
    /// # Errors
    /// One line: it is given twice, or the file does not hold it. What the file holds is not shown.
    pub(super) fn choose<P: TypedValueParser>(
        &self,
        matches: &ArgMatches,
        given: Option<P::Value>,
        file: Option<PathBuf>,
        parser: &P,
    ) -> Result<P::Value, clap::Error> {
        let is_flag = |flag: &str| matches.value_source(&flag.replace('-', "_")) == Some(ValueSource::CommandLine);
        match (given, file) {
            (Some(value), None) => Ok(value),
            (None, Some(file)) => self.read(&file, parser),
            (Some(value), Some(_)) if is_flag(self.itself) && !is_flag(self.file) => Ok(value),
            (Some(_), Some(file)) if is_flag(self.file) && !is_flag(self.itself) => self.read(&file, parser),
            (given, _) => Err(self.not_one(if given.is_some() { "both given" } else { "both missing" })),
        }
    }

    fn not_one(&self, what: &str) -> clap::Error {
        let show = |flag: &str| format!("--{flag} (ONCEWARD_{})", flag.to_uppercase().replace('-', "_"));
        let message = format!("{} and {} are {what}: use one of them", show(self.itself), show(self.file));
        clap::Error::raw(ErrorKind::ArgumentConflict, message)
    }

    fn read<P: TypedValueParser>(&self, path: &Path, parser: &P) -> Result<P::Value, clap::Error> {
        let refused = |why: &dyn Display| {
            clap::Error::raw(ErrorKind::ValueValidation, format!("--{} {}: {why}", self.file, path.display()))
        };
        let text = read_text(path).map_err(|error| refused(&error))?;
        match text.trim() {
            "" => Err(refused(&"the file is empty")),
            // A URL's reader would join the lines.
            text if text.contains('\n') => Err(refused(&"the file has more than one line")),
            text => {
                let arg = Arg::new(self.file).long(self.file).value_name("FILE").num_args(1);
                parser.parse_ref(&Command::new("onceward"), Some(&arg), OsStr::new(text))
            }
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
