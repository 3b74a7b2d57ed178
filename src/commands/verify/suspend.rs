//! A worker's machine is suspended, as far as the worker can tell: it stands still, and so does its `CLOCK_MONOTONIC`.
//!
//! The clock is kept back by a small library that is preloaded into the worker: `deploy/suspend.c`.

use std::fs::File;
use std::io::{Error, Result};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use procfs::process::Process;

use crate::clock;

/// How to build the library.
pub const HOW_TO_BUILD: &str = "cc -shared -fPIC -O2 -o suspend.so deploy/suspend.c";
/// How long a process may take to stand still.
const STANDS_STILL_WITHIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The clock of one process. Its file is gone when this is dropped.
#[derive(Debug)]
pub struct SuspendClock {
    library: PathBuf,
    path: PathBuf,
    /// How far the clock is behind in nanoseconds, and who reads it: a number of 64 bits each.
    file: File,
    behind: Duration,
}

impl SuspendClock {
    /// A clock that the library keeps.
    ///
    /// # Errors
    /// The library is not there, or the file can't be written.
    pub fn new(library: &Path) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let library = library.canonicalize()?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("onceward-clock-{}-{number}", std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        file.write_all_at(&[0; 16], 0)?;
        Ok(Self { library, path, file, behind: Duration::ZERO })
    }

    /// What the process needs in its environment.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 2] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("ONCEWARD_SUSPEND_CLOCK", self.path.display().to_string()),
        ]
    }

    /// Lets the process, which was started with this clock, stand still for a time that it does not see. `stopped` is called
    /// as soon as nothing of it runs any more.
    ///
    /// # Errors
    /// It has gone, or it does not read this clock.
    pub async fn suspend(&mut self, pid: u32, time: Duration, stopped: impl FnOnce()) -> Result<()> {
        let mut reader = [0; 8];
        self.file.read_exact_at(&mut reader, 8)?;
        if i64::from_ne_bytes(reader) != i64::from(pid) {
            let library = self.library.display();
            return Err(Error::other(format!("process {pid} has not loaded {library}, or is linked statically")));
        }
        signal(pid, "STOP")?;
        let suspended = self.skip(pid, time, stopped).await;
        signal(pid, "CONT")?;
        suspended
    }

    async fn skip(&mut self, pid: u32, time: Duration, stopped: impl FnOnce()) -> Result<()> {
        stands_still(pid).await?;
        let from = clock::now();
        stopped();
        tokio::time::sleep(time).await;
        self.behind += clock::now().saturating_sub(from);
        let behind = i64::try_from(self.behind.as_nanos()).map_err(Error::other)?;
        // In place: the process has the file in its memory.
        self.file.write_all_at(&behind.to_ne_bytes(), 0)
    }
}

impl Drop for SuspendClock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Waits until a process that was told to stop has: a thread that goes on for a moment would see its clock go back.
async fn stands_still(pid: u32) -> Result<()> {
    let is_still = || -> procfs::ProcResult<bool> {
        let mut tasks = Process::new(i32::try_from(pid).unwrap_or(0))?.tasks()?;
        tasks.try_fold(true, |still, task| Ok(still && task?.stat()?.state == 'T'))
    };
    let looking = async {
        while !is_still().map_err(Error::other)? {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    };
    let late = |_| Error::other(format!("process {pid} does not stand still"));
    tokio::time::timeout(STANDS_STILL_WITHIN, looking).await.map_err(late)?
}

/// Sends a process a signal.
///
/// # Errors
/// It has gone, or there is no `kill`.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).stderr(Stdio::null()).status()?;
    let failed = || Error::other(format!("process {pid} could not be sent SIG{name}"));
    if sent.success() { Ok(()) } else { Err(failed()) }
}
