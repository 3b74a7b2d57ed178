//! What processes have cost, as the operating system counts it. Where it does not say, nothing is shown.

use procfs::process::Process;

use super::args::VerifyArgs;
use super::workers::Workers;
use crate::proof::figures::ProcessFigures;

/// The run's own workers, this process, and those that were asked for.
pub(super) fn of_all(args: &VerifyArgs, workers: &Workers, events: u64) -> Vec<ProcessFigures> {
    let own = workers.pids().into_iter().map(|pid| ("worker".to_owned(), pid));
    let this = std::iter::once(("verify".to_owned(), std::process::id()));
    own.chain(this).chain(args.watch.iter().cloned()).filter_map(|(name, pid)| of(name, pid, events)).collect()
}

fn of(name: String, pid: u32, events: u64) -> Option<ProcessFigures> {
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    let (stat, status) = (process.stat().ok()?, process.status().ok()?);
    #[expect(clippy::cast_precision_loss, reason = "ticks and KiB of one process are far below 2^52")]
    let (seconds, mib) = (
        (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64,
        status.vmhwm.unwrap_or(0) as f64 / 1_024.0,
    );
    #[expect(clippy::cast_precision_loss, reason = "counts of events are far below 2^52")]
    let each = (events > 0).then(|| seconds * 1e6 / events as f64);
    Some(ProcessFigures { name, pid, cpu_seconds: seconds, cpu_micros_per_event: each, peak_memory_mib: mib })
}
