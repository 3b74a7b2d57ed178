//! Tests run side by side, except those that measure time or memory.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

/// Between two looks at the processors.
const LOOK: Duration = Duration::from_millis(200);
/// So many calm looks in a row are enough, and so many looks too much.
const CALM_LOOKS: u32 = 3;
const MOST_LOOKS: u32 = 100;

static MACHINE: RwLock<()> = RwLock::new(());

/// What a test asks of the machine.
#[derive(Clone, Copy)]
pub enum Load {
    /// It runs beside others.
    Shared,
    /// It measures: no other test runs meanwhile.
    Alone,
}

pub enum Turn {
    Shared { _guard: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

impl Load {
    pub fn turn(self) -> Turn {
        // A test that failed leaves nothing in a bad state: the lock guards no data.
        match self {
            Self::Shared => Turn::Shared { _guard: MACHINE.read().unwrap_or_else(PoisonError::into_inner) },
            Self::Alone => {
                let guard = MACHINE.write().unwrap_or_else(PoisonError::into_inner);
                until_calm();
                Turn::Alone { _guard: guard }
            }
        }
    }
}

/// Waits until the processors have little to do: the broker is still deleting the queues of the tests before. A machine
/// that never gets there is measured as it is.
fn until_calm() {
    let mut calm = 0;
    for _ in 0..MOST_LOOKS {
        let before = processor_time();
        std::thread::sleep(LOOK);
        let after = processor_time();
        let (idle, all) = (after.0 - before.0, after.1 - before.1);
        calm = if idle * 10 >= all * 8 { calm + 1 } else { 0 };
        if calm == CALM_LOOKS {
            return;
        }
    }
}

/// Idle and all time of all processors so far, in ticks: the first line of proc(5)'s `/proc/stat`.
fn processor_time() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let idle = ticks.get(3).copied().unwrap_or(0) + ticks.get(4).copied().unwrap_or(0);
    (idle, ticks.iter().take(8).sum())
}
