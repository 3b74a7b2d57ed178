//! The worker's settings, read again.

use std::sync::{Mutex, PoisonError};

use crate::config::WorkerArgs;
use crate::config::reload::{Change, Said, changes, said};
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
        }
    }
}

/// What holds, and how it is read again.
pub(super) struct Reload {
    given: Given,
    running: Mutex<(WorkerArgs, Said)>,
}

impl Reload {
    pub(super) fn new(args: &WorkerArgs, given: Given) -> Self {
        let running = Mutex::new((args.clone(), said(&given.taken)));
        Self { given, running }
    }

    /// Reads the file again, and tells what has changed: the settings that hold from now on. None without a file, and if it is
    /// refused: what held before goes on.
    pub(super) fn read(&self) -> Option<WorkerArgs> {
        let file = self.given.taken.file()?.display();
        let (new, taken) = match (self.given.again)() {
            Ok(new) => new,
            Err(wrong) => {
                tracing::error!("settings: {file} is refused, and what held before goes on: {wrong}");
                return None;
            }
        };
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let (args, before) = &mut *running;
        let changes = changes(before, &said(&taken));
        if changes.is_empty() {
            tracing::info!("settings: {file} says what it said before");
        }
        for change in &changes {
            if change.holds_at_once() {
                tracing::info!("settings: {change}; it holds from now on");
                change.note(before);
            } else {
                tracing::warn!("settings: {change}; restart the worker to take it over");
            }
        }
        tell_of_files(args, &new, &changes);
        *args = args.taking_over(&new);
        Some(args.clone())
    }
}

/// A file that holds a URL may hold another one now.
fn tell_of_files(args: &WorkerArgs, new: &WorkerArgs, changes: &[Change]) {
    let urls = [
        ("amqp-url", args.broker.amqp_url.reveal_from(0) != new.broker.amqp_url.reveal_from(0)),
        ("database-url", args.database.database_url.reveal() != new.database.database_url.reveal()),
    ];
    for (setting, is_another) in urls {
        let told = changes.iter().any(|change| change.setting.starts_with(setting));
        if is_another && !told {
            tracing::warn!("settings: {setting}-file holds another URL now; restart the worker to take it over");
        }
    }
}
