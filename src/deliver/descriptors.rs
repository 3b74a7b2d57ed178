//! File descriptors: how many connections may be opened, so that broker, database and admin port keep theirs.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::clock;

/// The share of the soft limit up to which connections are kept when idle, in percent.
const KEEP_BELOW: u64 = 50;
/// The share of the soft limit up to which connections are opened at all, in percent. The rest is for everything else.
const OPEN_BELOW: u64 = 75;
/// Descriptors are counted at least so often, if connections are opened, for others open some, too.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// And so often at most, while too many are open.
const COUNT_AT_MOST_EVERY: Duration = Duration::from_millis(10);
/// How long a connection waits for room before it is given up, and how often it looks.
const WAIT: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is open, as far as it was counted.
pub(super) struct Descriptors {
    counted: Mutex<Counted>,
}

#[derive(Clone, Copy, Default)]
struct Counted {
    at: Duration,
    /// Open ones when they were counted, and connections since.
    open: u64,
    limit: u64,
}

/// There was no room for a connection.
#[derive(Debug, thiserror::Error)]
#[error("{open} of {limit} file descriptors are open, and the rest is not for connections to receivers")]
pub(super) struct NoRoom {
    open: u64,
    limit: u64,
}

impl Descriptors {
    pub(super) fn new() -> Self {
        Self { counted: Mutex::new(count()) }
    }

    /// Waits for room for one more connection.
    ///
    /// # Errors
    /// There was none in time.
    pub(super) async fn open_one(&self) -> Result<(), NoRoom> {
        let deadline = clock::now() + WAIT;
        loop {
            match self.take() {
                Ok(()) => return Ok(()),
                Err(none) if clock::now() >= deadline => return Err(none),
                Err(_) => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Whether so many are open that connections are not to be kept.
    pub(super) fn are_scarce(&self) -> bool {
        let counted = *self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.is_beyond(KEEP_BELOW)
    }

    fn take(&self) -> Result<(), NoRoom> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let age = clock::now().saturating_sub(counted.at);
        if age >= COUNT_EVERY || (counted.is_beyond(OPEN_BELOW) && age >= COUNT_AT_MOST_EVERY) {
            *counted = count();
        }
        if counted.is_beyond(OPEN_BELOW) {
            return Err(NoRoom { open: counted.open, limit: counted.limit });
        }
        counted.open += 1;
        Ok(())
    }
}

impl Counted {
    fn is_beyond(self, percent: u64) -> bool {
        self.open.saturating_mul(100) >= self.limit.saturating_mul(percent)
    }
}

fn count() -> Counted {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    Counted { at: clock::now(), open: open(), limit }
}

/// Linux tells the number as the directory's size since 6.2; before, it is counted. Without procfs none are seen, and a
/// shortage is met where it happens.
fn open() -> u64 {
    const OURS: &str = "/proc/self/fd";
    match std::fs::metadata(OURS).map(|directory| directory.len()) {
        Ok(0) => std::fs::read_dir(OURS).map_or(0, |all| all.count() as u64),
        Ok(open) => open,
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_is_counted() {
        let before = open();
        let files: Vec<_> = (0..50).map(|_| std::fs::File::open("/proc/self/stat").unwrap()).collect();
        // Other tests open and close some meanwhile.
        assert!(open() + 40 >= before + files.len() as u64, "{before} before, {} after", open());
    }

    #[tokio::test]
    async fn there_is_room_up_to_a_share_of_the_limit() {
        let counted = |open| Counted { at: clock::now(), open, limit: 100 };
        let descriptors = Descriptors { counted: Mutex::new(counted(48)) };
        descriptors.open_one().await.unwrap();
        assert!(!descriptors.are_scarce());
        descriptors.open_one().await.unwrap();
        assert!(descriptors.are_scarce());
        *descriptors.counted.lock().unwrap() = counted(74);
        descriptors.take().unwrap();
        assert!(counted(75).is_beyond(OPEN_BELOW) && !counted(74).is_beyond(OPEN_BELOW));
    }
}
