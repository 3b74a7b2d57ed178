//! The one clock of a run: the system's monotonic clock, which all processes of a machine share.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since some moment that is the same for every process: what one stamps, another can subtract.
#[expect(clippy::disallowed_methods, reason = "this is the clock of a run")]
pub fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
