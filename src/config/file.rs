//! A setting that may stand in a file, as containers are given their secrets: `ONCEWARD_DATABASE_URL_FILE` for
//! `ONCEWARD_DATABASE_URL`. Official images call their variables the same way.

use std::ffi::OsStr;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use super::given::read_text;

/// No URL or list of secrets is longer; a device or a log that was named by mistake is not read to its end.
const LONGEST: u64 = 64 * 1024;

/// Has clap read settings by other flags than their fields: `<$settings>::read` makes the one of the other.
macro_rules! read_by {
    ($settings:ty, $flags:ty) => {
        impl clap::FromArgMatches for $settings {
            fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
                Self::read(<$flags as clap::FromArgMatches>::from_arg_matches(matches)?, matches)
            }

            fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
                *self = <Self as clap::FromArgMatches>::from_arg_matches(matches)?;
                Ok(())
            }
        }

        impl clap::Args for $settings {
            fn augment_args(command: clap::Command) -> clap::Command {
                <$flags as clap::Args>::augment_args(command)
            }

            fn augment_args_for_update(command: clap::Command) -> clap::Command {
                <$flags as clap::Args>::augment_args_for_update(command)
            }
        }
    };
}

pub(super) use read_by;

/// The flags of a setting: the one that takes it, and the one that names the file.
pub(super) struct Flags {
    pub(super) itself: &'static str,
    pub(super) file: &'static str,
}

impl Flags {
    /// What a setting is that has to be given.
    ///
    /// # Errors
    /// One line: it is missing, and those of [`Self::find`].
    pub(super) fn choose<P: TypedValueParser>(
        &self,
        matches: &ArgMatches,
        given: Option<P::Value>,
        file: Option<PathBuf>,
        parser: &P,
    ) -> Result<P::Value, clap::Error> {
        self.find(matches, given, file, parser)?.ok_or_else(|| self.not_one("both missing"))
    }

    /// What the setting is, if it is given. A flag goes before a variable, as it does elsewhere.
    ///
    /// # Errors
    /// One line: it is given twice, or the file does not hold it. What the file holds is not shown.
    pub(super) fn find<P: TypedValueParser>(
        &self,
        matches: &ArgMatches,
        given: Option<P::Value>,
        file: Option<PathBuf>,
        parser: &P,
    ) -> Result<Option<P::Value>, clap::Error> {
        let is_flag = |flag: &str| matches.value_source(&flag.replace('-', "_")) == Some(ValueSource::CommandLine);
        match (given, file) {
            (given, None) => Ok(given),
            (None, Some(file)) => self.read(&file, parser).map(Some),
            (given, Some(_)) if is_flag(self.itself) && !is_flag(self.file) => Ok(given),
            (_, Some(file)) if is_flag(self.file) && !is_flag(self.itself) => self.read(&file, parser).map(Some),
            _ => Err(self.not_one("both given")),
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
        let text = read_text(path, LONGEST).map_err(|error| refused(&error))?;
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
