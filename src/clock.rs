//! The one room that reads clocks. Everything that decides in the database goes by the database's clock instead.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

static START: LazyLock<Duration> = LazyLock::new(since_boot);

/// Time since the process first asked, by a clock that nobody sets and that goes on while the machine is suspended: leases end
/// meanwhile. (Linux: `CLOCK_BOOTTIME`; `CLOCK_MONOTONIC`, by which timers go, stands still.)
#[must_use]
pub fn now() -> Duration {
    since_boot().saturating_sub(*START)
}

fn since_boot() -> Duration {
    of(ClockId::Boottime)
}

/// By the clock that systemd orders messages by (`CLOCK_MONOTONIC`).
#[must_use]
pub fn monotonic() -> Duration {
    of(ClockId::Monotonic)
}

#[expect(clippy::disallowed_methods, reason = "this is the room of the clocks")]
fn of(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The time of day, as seconds since 1970-01-01 UTC. For people and receivers to read; nothing is decided by it.
#[must_use]
pub fn unix_seconds() -> u64 {
    time_of_day().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// The time of day, as milliseconds since 1970-01-01 UTC. For figures; nothing is decided by it.
#[must_use]
pub fn unix_millis() -> u64 {
    let time = time_of_day().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The time of day. For people and receivers to read; nothing is decided by it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the room of the clocks")]
pub fn time_of_day() -> SystemTime {
    SystemTime::now()
}
