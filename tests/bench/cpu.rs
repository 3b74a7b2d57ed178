//! CPU and memory of processes, as the operating system counts them.

use procfs::CurrentSI as _;
use procfs::process::{Process, Stat};

use super::Fallible;
use super::servers::Servers;

/// CPU of the parts, in seconds or in microseconds an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cpu {
    pub broker: f64,
    pub database: f64,
    /// All of them: workers, or the bare pipe.
    pub workers: f64,
    pub receiver: f64,
}

impl Cpu {
    /// Seconds that all parts have used so far.
    pub fn so_far(servers: &Servers, workers: &[u32], receiver: u32) -> Fallible<Self> {
        Ok(Self {
            broker: of_process(servers.broker_pid)?,
            database: of_family(servers.database_pid)?,
            workers: workers.iter().map(|pid| of_process(i32::try_from(*pid)?)).sum::<Fallible<f64>>()?,
            receiver: of_process(i32::try_from(receiver)?)?,
        })
    }

    /// Microseconds for each of `events`, since `before`.
    pub fn each(&self, before: &Self, events: u64) -> Self {
        let each = |now: f64, before: f64| (now - before) * 1e6 / events.max(1) as f64;
        Self {
            broker: each(self.broker, before.broker),
            database: each(self.database, before.database),
            workers: each(self.workers, before.workers),
            receiver: each(self.receiver, before.receiver),
        }
    }

    pub fn sum(&self) -> f64 {
        self.broker + self.database + self.workers + self.receiver
    }
}

/// The whole machine's CPU: clock ticks in use, and all of them.
pub struct Machine {
    used: u64,
    all: u64,
}

impl Machine {
    pub fn so_far() -> Fallible<Self> {
        let total = procfs::KernelStats::current()?.total;
        let idle = total.idle + total.iowait.unwrap_or_default();
        let others = [total.irq, total.softirq, total.steal].into_iter().flatten().sum::<u64>();
        let used = total.user + total.nice + total.system + others;
        Ok(Self { used, all: used + idle })
    }

    /// The part of it that was in use, from 0 to 1. The system may count the time that waits for a disk backwards.
    pub fn busy_since(&self, before: &Self) -> f64 {
        self.used.saturating_sub(before.used) as f64 / self.all.saturating_sub(before.all).max(1) as f64
    }
}

/// Seconds of both servers together.
pub fn of_servers(servers: &Servers) -> Fallible<f64> {
    Ok(of_process(servers.broker_pid)? + of_family(servers.database_pid)?)
}

/// The most memory that a process had resident, in MiB.
pub fn peak_mib(pid: u32) -> Fallible<f64> {
    let peak = Process::new(i32::try_from(pid)?)?.status()?.vmhwm.ok_or("the system does not tell VmHWM")?;
    Ok(peak as f64 / 1_024.0)
}

fn of_process(pid: i32) -> Fallible<f64> {
    let stat = Process::new(pid).and_then(|process| process.stat());
    let stat = stat.map_err(|error| format!("process {pid}: {error}"))?;
    Ok(seconds(stat.utime + stat.stime))
}

/// A process with its children, those that have ended among them.
fn of_family(parent: i32) -> Fallible<f64> {
    let stats = procfs::process::all_processes()?.filter_map(|process| process.ok()?.stat().ok());
    let children: u64 = stats.filter(|stat| stat.ppid == parent).map(|stat| stat.utime + stat.stime).sum();
    let stat: Stat = Process::new(parent)?.stat()?;
    let ended = (stat.cutime + stat.cstime).unsigned_abs();
    Ok(seconds(stat.utime + stat.stime + ended + children))
}

fn seconds(ticks: u64) -> f64 {
    ticks as f64 / procfs::ticks_per_second() as f64
}
