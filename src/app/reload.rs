//! The worker's settings, read again.

use std::sync::{Mutex, PoisonError};

use crate::config::WorkerArgs;
use crate::config::reload::{Change, Said, changes, overridden, said};
use crate::config::worker_file::Taken;

/// How the settings are read once more.
pub type ReadAgain = fn() -> Result<(WorkerArgs, Taken), String>;

/// What a worker was started with, and how to read it again.
#[derive(Clone, Debug)]
pub struct Given {
    /// What came from a file.
    pub taken: Taken,
    /// Reads it all once more.
    pub again: ReadAgain,
}

impl Given {
    /// Whether there is a file to read again.
    pub(super) fn has_file(&self) -> bool {
        self.taken.file().is_some()
    }

    /// Tells where settings come from.
    pub(super) fn tell(&self) {
        if let Some(file) = self.taken.file() {
            let settings = self.taken.settings().count();
            tracing::info!(settings, "settings: read from {}", file.display());
            let without_effect: Vec<_> = self.taken.overridden().map(|(key, _)| key).collect();
            if !without_effect.is_empty() {
                let settings = without_effect.join(", ");
                tracing::info!("settings: {settings} in {}: overridden by flags or variables", file.display());
            }
        }
    }
}

/// What holds, and how it is read again.
pub(super) struct Reload {
    given: Given,
    running: Mutex<Running>,
}

struct Running {
    args: WorkerArgs,
    /// What the file set when that was taken over.
    said: Said,
    /// What it set without effect when it was last told.
    overridden: Said,
}

impl Reload {
    pub(super) fn new(args: &WorkerArgs, given: Given) -> Self {
        let (said, overridden) = (said(&given.taken), overridden(&given.taken));
        let running = Mutex::new(Running { args: args.clone(), said, overridden });
        Self { given, running }
    }

    /// Reads the file again, and tells what has changed: the settings that hold from now on. None without a file, and if it is
    /// refused: what held before goes on.
    pub(super) fn read(&self) -> Option<WorkerArgs> {
        let file = self.given.taken.file()?.display();
        let (new, taken) = match (self.given.again)() {
            Ok(new) => new,
            Err(wrong) => {
                // Most of what can be wrong is told with its place.
                let file = file.to_string();
                let what = if wrong.starts_with(&file) { "the file" } else { &file };
                tracing::error!("settings: {what} is refused, and what held before goes on: {wrong}");
                return None;
            }
        };
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Running { args, said: before, overridden: without_effect } = &mut *running;
        let news = changes(before, &said(&taken));
        for change in &news {
            if change.holds_at_once() {
                tracing::info!("settings: {change}; it holds from now on");
                change.note(before);
            } else if change.is_fixed() {
                tracing::warn!("settings: {change}; it is fixed at the first start: set it back");
            } else {
                tracing::warn!("settings: {change}; restart the worker to take it over");
            }
        }
        let of_no_effect = changes(without_effect, &overridden(&taken));
        for change in &of_no_effect {
            tracing::info!("settings: {change}; it has no effect: a flag or a variable overrides it");
            change.note(without_effect);
        }
        if !tell_of_files(args, &new, &news) && news.is_empty() && of_no_effect.is_empty() {
            tracing::info!("settings: {file} says what it said before");
        }
        *args = args.taking_over(&new);
        Some(args.clone())
    }
}

/// A file that holds a URL may hold another one now, and one with secrets others. Tells whether there is such news.
fn tell_of_files(args: &WorkerArgs, new: &WorkerArgs, changes: &[Change]) -> bool {
    let is_told = |setting| changes.iter().any(|change| change.setting.starts_with(setting));
    let urls = [
        ("amqp-url", args.broker.amqp_url.reveal_from(0) != new.broker.amqp_url.reveal_from(0)),
        ("database-url", args.database.database_url.reveal() != new.database.database_url.reveal()),
    ];
    let mut is_news = false;
    for (setting, is_another) in urls {
        if is_another && !is_told(setting) {
            tracing::warn!("settings: {setting}-file holds another URL now; restart the worker to take it over");
            is_news = true;
        }
    }
    if !args.signing.secrets.sign_as(&new.signing.secrets) && !is_told("signing-secrets") {
        tracing::info!("settings: signing-secrets-file holds other secrets now; they hold from now on");
        is_news = true;
    }
    is_news
}
