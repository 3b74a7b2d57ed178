//! The program under test, as a process of its own.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, watch};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{SOON, World, within};

/// Lines of its log that a failed test shows.
const TAIL: usize = 60;

/// A running `onceward worker`. One that ends unasked fails the test.
pub struct Worker {
    pid: u32,
    log_file: PathBuf,
    lines: Arc<watch::Sender<Vec<String>>>,
    /// Held by whoever reads a line of it.
    reading: Arc<Mutex<()>>,
    exit: watch::Receiver<Option<i32>>,
    may_end: Arc<AtomicBool>,
}

/// Runs the program to its end: its exit code, and all that it printed.
pub async fn run_to_end(world: &World, arguments: &[&str]) -> (i32, String) {
    run_to_end_with(world, arguments, &[]).await
}

/// With more of an environment.
pub async fn run_to_end_with(world: &World, arguments: &[&str], environment: &[(&str, String)]) -> (i32, String) {
    run_this_to_end(world, command(world, arguments, environment)).await
}

/// With nothing of the tests' settings: with this environment alone.
pub async fn run_to_end_in(world: &World, arguments: &[&str], environment: &[(&str, String)]) -> (i32, String) {
    run_this_to_end(world, bare(arguments, environment)).await
}

/// With standard output going elsewhere: the exit code, and what it said on standard error.
pub fn run_to_end_into(world: &World, arguments: &[&str], stdout: impl Into<Stdio>) -> (i32, String) {
    let output = command(world, arguments, &[]).stdout(stdout).output().expect("the program runs");
    (output.status.code().expect("a code"), String::from_utf8(output.stderr).expect("text"))
}

async fn run_this_to_end(world: &World, command: Command) -> (i32, String) {
    let program = Worker::of(world, command, true);
    (program.ends_by_itself(SOON * 3).await, program.log())
}

impl Worker {
    /// Starts a worker and waits until it owns its partitions and consumes.
    pub async fn start(world: &World, arguments: &[&str]) -> Self {
        Self::start_with(world, arguments, &[]).await
    }

    /// With more of an environment.
    pub async fn start_with(world: &World, arguments: &[&str], environment: &[(&str, String)]) -> Self {
        let worker = Self::run_with(world, &[&["worker"], arguments].concat(), environment);
        worker.wait_for_line(SOON, "ready: consuming").await;
        worker
    }

    pub fn spawn(world: &World, arguments: &[&str]) -> Self {
        Self::run(world, &[&["worker"], arguments].concat())
    }

    /// Any of the program's commands. A worker goes on until it is told to end; the others end by themselves.
    pub fn run(world: &World, arguments: &[&str]) -> Self {
        Self::run_with(world, arguments, &[])
    }

    /// With more of an environment.
    pub fn run_with(world: &World, arguments: &[&str], environment: &[(&str, String)]) -> Self {
        Self::of(world, command(world, arguments, environment), arguments.first() != Some(&"worker"))
    }

    /// With nothing of the tests' settings: with this environment alone.
    pub fn run_in(world: &World, arguments: &[&str], environment: &[(&str, String)]) -> Self {
        Self::of(world, bare(arguments, environment), arguments.first() != Some(&"worker"))
    }

    /// Whether it may end by itself has to be known before it starts: a program that is refused ends at once.
    fn of(world: &World, mut command: Command, may_end: bool) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let log_file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{number}.log", world.name));
        let file = File::create(&log_file).expect("a log file");
        let mut child = command.spawn().expect("the program starts");
        let lines = Arc::new(watch::Sender::new(Vec::new()));
        let reading = Arc::<Mutex<()>>::default();
        let outputs = [
            collect(child.stdout.take().expect("piped"), &file, &lines, &reading),
            collect(child.stderr.take().expect("piped"), &file, &lines, &reading),
        ];
        let may_end = Arc::new(AtomicBool::new(may_end));
        let pid = child.id();
        let exit = watch_exit(child, outputs, Arc::clone(&may_end));
        Self { pid, log_file, lines, reading, exit, may_end }
    }

    /// Waits for a line of the log that holds `text`.
    pub async fn wait_for_line(&self, time: Duration, text: &str) {
        let mut lines = self.lines.subscribe();
        let seen = lines.wait_for(|lines| lines.iter().any(|line| line.contains(text)));
        let _ = within(time, format_args!("the worker's line {text:?}"), seen).await;
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn signal(&self, name: &str) {
        self.may_end.store(true, Ordering::SeqCst);
        if self.exit.borrow().is_none() {
            let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid.to_string()).status();
            assert!(sent.expect("kill runs").success(), "SIG{name} to the worker");
        }
    }

    /// Waits for its end: the exit code, or the negative signal.
    pub async fn exit_code(&self, time: Duration) -> i32 {
        let mut exit = self.exit.clone();
        let code = within(time, "the worker's end", exit.wait_for(Option::is_some)).await;
        code.expect("the task that waits for the worker").expect("just waited for")
    }

    /// Waits for an end that nobody asked for, of a program that may: the exit code.
    pub async fn ends_by_itself(&self, time: Duration) -> i32 {
        assert!(self.may_end.load(Ordering::SeqCst), "a worker goes on: `run_to_end` is for one that does not");
        self.exit_code(time).await
    }

    /// SIGTERM, and waits for a good end.
    pub async fn stop(&self) {
        self.signal("TERM");
        assert_eq!(self.exit_code(Duration::from_secs(40)).await, 0, "a drained worker's exit code");
    }

    pub async fn kill(&self) {
        self.signal("KILL");
        self.exit_code(SOON).await;
    }

    /// Memory in KiB: `VmRSS` now, or `VmHWM` at most so far.
    pub fn memory_kib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("a process that runs");
        let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let number = value.and_then(|value| value.trim().strip_suffix(" kB"));
        number.and_then(|number| number.parse().ok()).expect("a number of kB")
    }

    /// Leaves what it prints in its pipes, until the guard is dropped.
    pub async fn stop_reading(&self) -> OwnedMutexGuard<()> {
        self.reading.clone().lock_owned().await
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.lines.borrow().join("\n")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.lines.borrow();
            let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
            eprintln!("--- the end of {}\n{tail}\n---", self.log_file.display());
        }
        self.may_end.store(true, Ordering::SeqCst);
        if self.exit.borrow().is_none() {
            let _ = Command::new("kill").arg("-KILL").arg(self.pid.to_string()).status();
        }
    }
}

/// The program with the world's servers and settings for tests, which the arguments may override, and this environment.
fn command(world: &World, arguments: &[&str], environment: &[(&str, String)]) -> Command {
    let mut command = bare(arguments, &[]);
    command
        .env("ONCEWARD_AMQP_URL", &world.amqp_url)
        .env("ONCEWARD_DATABASE_URL", &world.database_url)
        .env("ONCEWARD_PARTITIONS", "4")
        .env("ONCEWARD_ATTEMPT_TIMEOUT", "2s")
        .env("ONCEWARD_LEASE", "3s")
        .env("ONCEWARD_ADMIN_LISTEN", "127.0.0.1:0")
        .env("ONCEWARD_LOG_FORMAT", "text")
        // The receivers are on this machine.
        .env("ONCEWARD_ALLOW_NET", "127.0.0.0/8,::1/128")
        .envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

/// The program with this environment, and without any other setting.
fn bare(arguments: &[&str], environment: &[(&str, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onceward"));
    let ours = |name: &std::ffi::OsStr| {
        [&b"ONCEWARD_"[..], b"OTEL_"].iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix))
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    command.args(arguments).envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What it prints goes to a file, and to the test.
fn collect(
    pipe: impl Read + Send + 'static,
    file: &File,
    lines: &Arc<watch::Sender<Vec<String>>>,
    reading: &Arc<Mutex<()>>,
) -> JoinHandle<()> {
    let (mut file, lines) = (file.try_clone().expect("a second handle"), Arc::clone(lines));
    let reading = Arc::clone(reading);
    spawn_blocking(move || {
        for line in BufReader::new(pipe).lines() {
            let _reading = reading.blocking_lock();
            let line = line.expect("the log is text");
            writeln!(file, "{line}").expect("the log is written");
            lines.send_modify(|lines| lines.push(line));
        }
    })
}

/// Its end is told when its last line is read.
fn watch_exit(
    mut child: Child,
    outputs: [JoinHandle<()>; 2],
    may_end: Arc<AtomicBool>,
) -> watch::Receiver<Option<i32>> {
    let (sender, exit) = watch::channel(None);
    tokio::spawn(async move {
        let waiting = spawn_blocking(move || child.wait().expect("a child of ours"));
        let status = waiting.await.expect("the wait for the worker");
        for output in outputs {
            output.await.expect("the worker's output");
        }
        sender.send_replace(status.code().or(status.signal().map(|signal| -signal)));
        assert!(may_end.load(Ordering::SeqCst), "the worker ended by itself: {status}");
    });
    exit
}
