//! What of a worker's settings is taken over while it runs, and what needs a restart.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use super::WorkerArgs;
use super::worker_file::{Taken, is_secret};

/// What is taken over at once: all of it holds for receivers that no file of destinations says anything else about.
pub const AT_ONCE: [&str; 15] = [
    "backoff-factor",
    "backoff-initial",
    "backoff-jitter",
    "backoff-max",
    "final-statuses",
    "gate-failures",
    "gate-probe-initial",
    "gate-probe-max",
    "gone",
    "max-attempts",
    "max-unknown-outcomes",
    "on-exhausted",
    "retry-after-max",
    "signing-secrets",
    "signing-secrets-file",
];

/// What the first start fixes for exchange and database.
const FIXED: [&str; 4] = ["entity-from", "exchange", "exchange-type", "partitions"];

impl WorkerArgs {
    /// These settings, with what is taken over at once from others.
    #[must_use]
    pub fn taking_over(&self, new: &Self) -> Self {
        Self {
            max_attempts: new.max_attempts,
            max_unknown_outcomes: new.max_unknown_outcomes,
            backoff_initial: new.backoff_initial,
            backoff_max: new.backoff_max,
            backoff_factor: new.backoff_factor,
            backoff_jitter: new.backoff_jitter,
            retry_after_max: new.retry_after_max,
            final_statuses: new.final_statuses.clone(),
            on_exhausted: new.on_exhausted,
            gate: new.gate.clone(),
            signing: new.signing.clone(),
            ..self.clone()
        }
    }
}

/// A setting that the file sets otherwise than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub setting: String,
    /// What it was; none if the file did not set it.
    from: Option<OsString>,
    /// What it is.
    to: Option<OsString>,
}

impl Change {
    /// Whether it is taken over at once.
    #[must_use]
    pub fn holds_at_once(&self) -> bool {
        AT_ONCE.contains(&self.setting.as_str())
    }

    /// Whether no restart takes it over either.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        FIXED.contains(&self.setting.as_str())
    }

    /// It is no news any more.
    pub fn note(&self, said: &mut Said) {
        match &self.to {
            Some(value) => said.insert(self.setting.clone(), value.clone()),
            None => said.remove(&self.setting),
        };
    }
}

/// The setting with its new value and the old one; a value that may hold a password is not shown.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = is_secret(&self.setting);
        let show = |value: &Option<OsString>| match value {
            None => "not set".to_owned(),
            Some(_) if secret => "(not shown)".to_owned(),
            Some(value) if value.is_empty() => "empty".to_owned(),
            Some(value) => value.to_string_lossy().escape_debug().to_string(),
        };
        write!(f, "{}: now {}, before {}", self.setting, show(&self.to), show(&self.from))
    }
}

/// What a file sets, by the names of the settings.
pub type Said = BTreeMap<String, OsString>;

/// What a file sets.
#[must_use]
pub fn said(taken: &Taken) -> Said {
    taken.settings().map(|(key, text)| (key.to_owned(), text.to_owned())).collect()
}

/// What a file sets without effect, because a flag or a variable says it.
#[must_use]
pub fn overridden(taken: &Taken) -> Said {
    taken.overridden().map(|(key, text)| (key.to_owned(), text.to_owned())).collect()
}

/// What a file sets otherwise than before, in the order of the names.
#[must_use]
pub fn changes(before: &Said, now: &Said) -> Vec<Change> {
    let mut settings: Vec<_> = before.keys().chain(now.keys()).collect();
    settings.sort_unstable();
    settings.dedup();
    let differ = settings.into_iter().filter(|setting| before.get(*setting) != now.get(*setting));
    let change = |setting: &String| Change {
        setting: setting.clone(),
        from: before.get(setting).cloned(),
        to: now.get(setting).cloned(),
    };
    differ.map(change).collect()
}
