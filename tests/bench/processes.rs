//! The processes of a measurement: receiver, workers, bare pipe. None outlives the run; Ctrl-C reaches only
//! the run itself, which then ends them.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::Fallible;
use super::cpu;
use super::receiver::{Line, ReceiverArgs, Report};
use super::world::World;

/// Without anything new for so long, a measurement has failed.
const STALLED_AFTER: Duration = Duration::from_mins(1);
/// How long a worker may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(40);

/// The receiver's process.
pub struct Receiver {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    pub port: u16,
}

impl Receiver {
    pub async fn start(args: &ReceiverArgs) -> Fallible<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("as-receiver").arg(format!("--hosts={}", args.hosts));
        command.arg(format!("--expect={}", args.expect)).arg(format!("--fail={}", args.fail));
        let switches = [
            ("--last-hangs", args.last_hangs),
            ("--all-hang", args.all_hang),
            ("--unordered", args.unordered),
            ("--swallow", args.swallow),
        ];
        command.args(switches.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name));
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take().ok_or("the receiver has no standard input")?;
        let lines = BufReader::new(child.stdout.take().ok_or("the receiver has no standard output")?).lines();
        let mut receiver = Self { child, stdin, lines, port: 0 };
        match receiver.line().await? {
            Line::Listening(port) => receiver.port = port,
            other => return Err(format!("the receiver began with {other:?}").into()),
        }
        Ok(receiver)
    }

    pub fn pid(&self) -> Fallible<u32> {
        Ok(self.child.id().ok_or("the receiver has ended")?)
    }

    async fn line(&mut self) -> Fallible<Line> {
        let line = self.lines.next_line().await?.ok_or("the receiver has ended")?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Waits for the first event.
    pub async fn first(&mut self) -> Fallible<()> {
        match tokio::time::timeout(STALLED_AFTER, self.line()).await {
            Ok(line) => match line? {
                Line::First => Ok(()),
                other => Err(format!("the receiver said {other:?} before the first event").into()),
            },
            Err(_) => Err(format!("no event came within {} s", STALLED_AFTER.as_secs()).into()),
        }
    }

    /// Waits for the last one, as long as any come.
    pub async fn done(&mut self) -> Fallible<()> {
        let mut requests = 0;
        loop {
            match tokio::time::timeout(STALLED_AFTER, self.line()).await {
                Ok(line) => match line? {
                    Line::Done => return Ok(()),
                    Line::Report(report) if report.requests > requests => requests = report.requests,
                    Line::Report(report) => {
                        return Err(
                            format!("nothing more came within {} s: {report:?}", STALLED_AFTER.as_secs()).into()
                        );
                    }
                    Line::First | Line::Listening(_) => {}
                },
                Err(_) => self.stdin.write_all(b"\n").await?,
            }
        }
    }

    pub async fn report(&mut self) -> Fallible<Report> {
        self.stdin.write_all(b"\n").await?;
        loop {
            if let Line::Report(report) = self.line().await? {
                return Ok(report);
            }
        }
    }
}

/// The workers, or the bare pipe: whatever takes events from the broker to the receiver.
pub struct Consumers {
    children: Vec<Child>,
    /// The bare pipe ends with it.
    stdin: Option<ChildStdin>,
}

impl Consumers {
    /// Workers with the defaults, but for what a machine of several needs, and `settings`. Their log is in `dir`.
    pub fn workers(world: &World<'_>, dir: &Path, count: usize, settings: &[(String, String)]) -> Fallible<Self> {
        let log = File::options().create(true).append(true).open(dir.join("worker.log"))?;
        let children = (0..count).map(|number| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_onceward"));
            clear(&mut command);
            command
                .args(["worker", &format!("--partitions={}", world.partitions), &format!("--name=worker-{number}")])
                .env("ONCEWARD_AMQP_URL", world.amqp_url.reveal())
                .env("ONCEWARD_DATABASE_URL", world.database_url.reveal())
                .env("ONCEWARD_ADMIN_LISTEN", "off")
                .env("ONCEWARD_ALLOW_NET", "127.0.0.0/8,::1/128")
                .env("ONCEWARD_LOG_FORMAT", "text")
                .envs(settings.iter().map(|(name, value)| (name, value)))
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log.try_clone()?)
                .process_group(0)
                .kill_on_drop(true);
            Ok(command.spawn()?)
        });
        Ok(Self { children: children.collect::<Fallible<_>>()?, stdin: None })
    }

    /// The bare pipe.
    pub fn pipe(world: &World<'_>, connections: u16) -> Fallible<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["as-pipe", "--amqp-url", world.amqp_url.reveal()]);
        command.arg(format!("--partitions={}", world.partitions)).arg(format!("--connections={connections}"));
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let stdin = child.stdin.take();
        Ok(Self { children: vec![child], stdin })
    }

    pub fn pids(&self) -> Vec<u32> {
        self.children.iter().filter_map(Child::id).collect()
    }

    /// The most memory that one of them had, in MiB.
    pub fn peak_mib(&self) -> Fallible<f64> {
        let peaks = self.pids().into_iter().map(cpu::peak_mib).collect::<Fallible<Vec<_>>>()?;
        Ok(peaks.into_iter().fold(0.0, f64::max))
    }

    /// Runs `work`, unless one of them ends before it.
    pub async fn during<T>(&mut self, work: impl Future<Output = Fallible<T>>) -> Fallible<T> {
        let ends = self.children.iter_mut().map(|child| Box::pin(child.wait()));
        tokio::select! {
            done = work => done,
            (ended, _, _) = select_all(ends) => Err(format!("a worker ended by itself: {}", ended?).into()),
        }
    }

    /// Asks all of them to stop, and waits.
    pub async fn stop(mut self) -> Fallible<()> {
        if self.stdin.take().is_none() {
            for pid in self.pids() {
                Command::new("kill").arg("-TERM").arg(pid.to_string()).status().await?;
            }
        }
        for child in &mut self.children {
            let ended = tokio::time::timeout(STOP_WITHIN, child.wait()).await;
            let status = ended.map_err(|_| format!("a worker did not stop within {} s", STOP_WITHIN.as_secs()))??;
            if !status.success() {
                return Err(format!("a worker stopped with {status}").into());
            }
        }
        Ok(())
    }

    /// Ends all of them at once, whatever they have in flight.
    pub async fn kill(mut self) -> Fallible<()> {
        for child in &mut self.children {
            child.kill().await?;
        }
        Ok(())
    }
}

/// Settings of the caller's own are not what is measured.
fn clear(command: &mut Command) {
    let ours = |name: &std::ffi::OsStr| {
        [&b"ONCEWARD_"[..], b"OTEL_"].iter().any(|prefix| name.as_encoded_bytes().starts_with(prefix))
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
}
