//! Workers whose machine can be suspended, as far as they can tell.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use onceward::commands::verify::suspend::SuspendClock;

use super::{Fault, Worker, World};

/// A worker with a clock of its own.
pub struct Suspendable {
    worker: Worker,
    clock: SuspendClock,
}

impl Suspendable {
    /// Starts a worker and waits until it owns its partitions and consumes.
    pub async fn start(world: &World, arguments: &[&str]) -> Self {
        let clock = SuspendClock::new(library()).expect("a clock");
        let worker = Worker::start_with(world, arguments, &clock.environment()).await;
        Self { worker, clock }
    }

    /// Suspends it for a time that it does not see. What was in flight at its beginning may be sent again; what the worker
    /// sends when it goes on has no such excuse.
    pub async fn suspend(&mut self, time: Duration) -> Fault {
        let from = Instant::now();
        let mut to = from;
        let suspended = self.clock.suspend(self.worker.pid(), time, || to = Instant::now()).await;
        suspended.expect("the worker stands still, and its clock with it");
        Fault { from, to }
    }
}

impl Deref for Suspendable {
    type Target = Worker;

    fn deref(&self) -> &Worker {
        &self.worker
    }
}

/// The library that keeps the clocks, built once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/suspend.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("suspend-{}.so", std::process::id()));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&library).arg(source);
        let status = compiler.status().expect("a C compiler, as the tests' build needs one");
        assert!(status.success(), "{compiler:?}: {status}");
        // Other runs of the tests share the directory, and may have it loaded.
        let shared = library.with_file_name("suspend.so");
        std::fs::rename(&library, &shared).expect("a file of ours");
        shared
    })
}
