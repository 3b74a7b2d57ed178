//! The destinations file: what holds for each receiver, by name and by host. It is read whole, or refused with everything
//! that is wrong in it.

pub(super) mod complaint;
mod context;
mod entry;
mod flags;
mod pattern;
pub(super) mod pem;
mod request;
mod settings;
mod source;
pub(super) mod value;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use toml::de::DeTable;

pub use self::complaint::Refused;
use self::complaint::{Complaint, Complaints, Lines};
use self::entry::Reading;
pub use self::flags::WorkerFlags;
pub use self::settings::{Setting, settings};
use self::source::Sources;
use crate::config::given::read_text;
use crate::domain::destination::{Destination, Destinations};
use crate::domain::event::Target;

/// The longest file, in bytes; each file that it names is no longer either.
pub const LONGEST_FILE: u64 = 1024 * 1024;
/// All files that it names together are no longer than this, in bytes.
pub const LONGEST_IN_ALL: usize = 16 * 1024 * 1024;
/// The most entries of a file.
pub const MOST_ENTRIES: usize = 1_000;

/// What the settings of one receiver have to fit into.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// An attempt begins only if it ends within the lease.
    pub lease: Duration,
    /// A stop waits this long for an attempt.
    pub drain_time: Duration,
    /// One host gets a tenth of it.
    pub max_in_flight: u16,
}

impl Limits {
    /// Whether an attempt may take this long.
    ///
    /// # Errors
    /// Why not, and what to write.
    fn check(&self, timeout: Duration) -> Result<(), String> {
        let show = humantime::format_duration;
        let longest = self.drain_time.min(self.lease * 2 / 3);
        if self.lease < timeout.saturating_mul(3) / 2 {
            let (timeout, lease, longest) = (show(timeout), show(self.lease), show(longest));
            return Err(format!(
                "{timeout} is too long: an attempt begins only if it ends within the lease, so --lease ({lease}) is at \
                 least one and a half times that: use {longest} or less, or raise --lease"
            ));
        }
        if self.drain_time < timeout {
            let (timeout, drain) = (show(timeout), show(self.drain_time));
            return Err(format!(
                "{timeout} is longer than --drain-time ({drain}): use that or less, or raise --drain-time"
            ));
        }
        Ok(())
    }
}

/// The heading of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Heading {
    /// `[defaults]`.
    Defaults,
    /// `[names.…]`.
    Name(String),
    /// `[hosts."…"]`.
    Host(String),
}

impl fmt::Display for Heading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => f.write_str("[defaults]"),
            // A dot would part it.
            Self::Name(name) if name.contains('.') => write!(f, "[names.\"{name}\"]"),
            Self::Name(name) => write!(f, "[names.{name}]"),
            Self::Host(pattern) => write!(f, "[hosts.\"{pattern}\"]"),
        }
    }
}

/// Where in the file a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The entry.
    pub heading: Heading,
    /// The line, from 1.
    pub line: usize,
}

/// For each setting that the file sets, by its key: where. What it does not set comes from the worker's flags.
pub type Origins = BTreeMap<&'static str, Origin>;

/// What was read, and where each value comes from.
#[derive(Debug)]
pub struct Sheet {
    /// What holds.
    pub destinations: Destinations,
    /// How many names there are, and how many patterns.
    pub counts: (usize, usize),
    origins: HashMap<Heading, Origins>,
}

impl Sheet {
    /// The entry that holds for a target, what it says, and where that comes from. None for a name that is not there.
    #[must_use]
    pub fn of(&self, target: &Target) -> Option<(Heading, &Destination, &Origins)> {
        let destination = match target {
            Target::Name(name) => self.destinations.named(name)?,
            Target::Url(_) => self.destinations.of(&target.host()),
        };
        let entry = destination.entry.to_string();
        let heading = match target {
            Target::Name(_) => Heading::Name(entry),
            Target::Url(_) if Arc::ptr_eq(destination, self.destinations.defaults()) => Heading::Defaults,
            Target::Url(_) => Heading::Host(entry),
        };
        let origins = self.origins.get(&heading)?;
        Some((heading, destination, origins))
    }

    /// The names, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let names = self.origins.keys().filter_map(|heading| match heading {
            Heading::Name(name) => Some(name.as_str()),
            Heading::Defaults | Heading::Host(_) => None,
        });
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names
    }
}

/// Reads the file. What it does not set is as in `defaults`, which come from the worker's flags.
///
/// # Errors
/// Everything that is wrong in it, each in one line with what to write instead. Nothing secret is shown.
pub fn read(path: &Path, defaults: &Destination, limits: Limits) -> Result<Destinations, Refused> {
    read_sheet(path, defaults, limits).map(|sheet| sheet.destinations)
}

/// Reads the file, and keeps where each value comes from.
///
/// # Errors
/// Those of [`read`].
pub fn read_sheet(path: &Path, defaults: &Destination, limits: Limits) -> Result<Sheet, Refused> {
    let name = path.display().to_string();
    let whole = |what: String| Refused::whole(&name, &what);
    let text = read_text(path, LONGEST_FILE).map_err(whole)?;
    // The parser goes no deeper than 80 tables or arrays.
    let (table, wrong) = DeTable::parse_recoverable(&text);
    let wrong = wrong.iter().map(|wrong| Complaint {
        at: wrong.span().map_or(0, |span| span.start),
        what: format!("{}: this is not TOML (https://toml.io)", wrong.message()),
    });
    // With a heading that can't be read, all that follows would seem to be in the wrong place.
    let mut complaints: Complaints = wrong.collect();
    let lines = Lines::new(&text);
    if complaints.is_empty() {
        let mut reading = Reading::new(&lines, defaults, Sources::new(path, &text), limits);
        reading.file(table.get_ref(), &mut complaints);
        if complaints.is_empty() {
            return Ok(reading.end());
        }
    }
    Err(complaints.refuse(&name, &lines))
}

#[cfg(test)]
mod tests;
