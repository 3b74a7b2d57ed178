//! Tests run side by side, except those that measure time or memory.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

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
            Self::Alone => Turn::Alone { _guard: MACHINE.write().unwrap_or_else(PoisonError::into_inner) },
        }
    }
}
