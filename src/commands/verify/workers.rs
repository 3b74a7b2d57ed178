//! Workers that a run starts for itself.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::args::VerifyArgs;
use super::last_words::LastWords;
use super::link::Link;
use super::suspend::{SuspendClock, signal};
use super::trouble::{Server, Trouble};

/// How long a worker may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(40);
/// How often it is looked whether one has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The workers of a run.
pub(super) struct Workers {
    args: VerifyArgs,
    running: Vec<Worker>,
    /// The first worker's, if there is a trouble that needs them.
    links: Option<Links>,
}

struct Worker {
    process: Child,
    last_words: LastWords,
    /// If there is a trouble that needs it.
    clock: Option<SuspendClock>,
}

struct Links {
    broker: Link,
    database: Link,
}

impl Workers {
    pub(super) fn new(args: &VerifyArgs) -> Self {
        Self { args: args.clone(), running: Vec::new(), links: None }
    }

    pub(super) async fn start(&mut self) -> Result<(), String> {
        if self.needs(Trouble::needs_a_link) {
            let broker = Link::to(self.args.broker.amqp_url.first().reveal()).await?;
            let database = Link::to(self.args.database.database_url.reveal()).await?;
            self.links = Some(Links { broker, database });
        }
        for number in 0..usize::from(self.args.workers) {
            let worker = self.spawn(number)?;
            self.running.push(worker);
        }
        Ok(())
    }

    fn needs(&self, needs: fn(&Trouble) -> bool) -> bool {
        self.args.trouble.iter().any(needs)
    }

    /// The first worker's link to a server.
    pub(super) fn link(&self, server: Server) -> Result<&Link, String> {
        let links = self.links.as_ref().ok_or("no worker was started behind a link")?;
        Ok(match server {
            Server::Broker => &links.broker,
            Server::Database => &links.database,
        })
    }

    /// Where the servers are for a worker: broker, database. Of a cluster, each worker begins with another node.
    fn urls(&self, number: usize) -> Result<(String, String), String> {
        let (broker, database) = (&self.args.broker.amqp_url, self.args.database.database_url.reveal());
        match &self.links {
            Some(links) if number == 0 => {
                let database = links.database.through(database)?;
                let database = if self.needs(Trouble::reads_commits) { without_tls(&database)? } else { database };
                Ok((links.broker.through(broker.first().reveal())?, database))
            }
            _ => Ok((broker.reveal_from(number), database.into())),
        }
    }

    fn spawn(&self, number: usize) -> Result<Worker, String> {
        let args = &self.args;
        let (broker, database) = self.urls(number)?;
        let clock = self.clock()?;
        let failed = |error: std::io::Error| format!("a worker can't be started: {error}");
        let log = match &args.worker_log {
            Some(path) => {
                let opened = File::options().create(true).append(true).open(path);
                Some(opened.map_err(|error| format!("{}: {error}", path.display()))?)
            }
            None => None,
        };
        let time = |time| humantime::format_duration(time).to_string().replace(' ', "");
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .arg("worker")
            .arg(format!("--exchange={}", args.broker.exchange))
            .arg(format!("--partitions={}", args.partitions))
            .arg(format!("--entity-from={}", args.origin.entity_from))
            .arg(format!("--sequence-from={}", args.origin.sequence_from))
            .arg(format!("--host-connections={}", args.host_connections))
            .arg(format!("--max-attempts={}", args.max_attempts))
            .arg(format!("--backoff-initial={}", time(args.backoff_initial)))
            .arg(format!("--backoff-max={}", time(args.backoff_max)))
            .arg(format!("--attempt-timeout={}", time(args.attempt_timeout)))
            // Several on one machine can't share the usual port.
            .arg("--admin-listen=127.0.0.1:0")
            .args(self.allowed())
            .args(&args.worker_flag)
            .env("ONCEWARD_AMQP_URL", broker)
            .env("ONCEWARD_DATABASE_URL", database)
            // The run's own, which would say the same twice.
            .env_remove("ONCEWARD_AMQP_URL_FILE")
            .env_remove("ONCEWARD_DATABASE_URL_FILE")
            .env("ONCEWARD_LOG_FORMAT", "text")
            .envs(args.config.as_ref().map(|file| ("ONCEWARD_CONFIG", file)))
            .envs(clock.iter().flat_map(SuspendClock::environment))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut process = command.spawn().map_err(failed)?;
        let said = process.stderr.take().ok_or("a worker can't be listened to")?;
        Ok(Worker { process, last_words: LastWords::of(said, log), clock })
    }

    /// The receiver is on this machine or beside it, where no worker sends events to unless it is told to.
    fn allowed(&self) -> Option<String> {
        let is_told = |flag: &String| flag.starts_with("--allow-net") || flag.starts_with("--allow-host");
        if self.args.worker_flag.iter().any(is_told) {
            return None;
        }
        Some(match &self.args.advertise {
            Some(name) if name.parse::<std::net::IpAddr>().is_err() => format!("--allow-host={name}"),
            Some(address) => format!("--allow-net={address}"),
            None => format!("--allow-net={}", self.args.listen),
        })
    }

    /// A clock for one more worker.
    fn clock(&self) -> Result<Option<SuspendClock>, String> {
        let Some(library) = self.args.suspend_with.as_ref().filter(|_| self.needs(Trouble::needs_a_clock)) else {
            return Ok(None);
        };
        SuspendClock::new(library).map(Some).map_err(|error| format!("{}: {error}", library.display()))
    }

    /// Process ids of those that run.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.running.iter().map(|worker| worker.process.id()).collect()
    }

    /// Waits until one of them ends, though nobody has asked it to: why.
    pub(super) async fn ended(&mut self) -> String {
        loop {
            let ended = |worker: &mut Worker| worker.process.try_wait().ok().flatten();
            let found = (0..).zip(&mut self.running).find_map(|(at, worker)| Some((at, ended(worker)?)));
            if let Some((at, status)) = found {
                let last_words = self.running.swap_remove(at).last_words.end();
                return last_words.unwrap_or_else(|| status.to_string());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The worker whose turn it is.
    fn victim(&mut self, turn: usize) -> Result<&mut Worker, String> {
        let victim = turn % self.running.len().max(1);
        self.running.get_mut(victim).ok_or_else(|| "no worker is left".into())
    }

    /// Kills one and starts another in its place. Gives what was done.
    pub(super) fn kill_one(&mut self, turn: usize) -> Result<String, String> {
        let next = self.spawn(turn % self.running.len().max(1))?;
        let victim = self.victim(turn)?;
        let pid = victim.process.id();
        let killed = victim.process.kill().and_then(|()| victim.process.wait());
        killed.map_err(|error| format!("kill {pid}: {error}"))?;
        *victim = next;
        Ok(format!("killed worker {pid}, started another"))
    }

    /// Stops one in the middle of whatever it does, or lets it go on.
    pub(super) fn signal(&mut self, turn: usize, name: &str) -> Result<u32, String> {
        let pid = self.victim(turn)?.process.id();
        signal(pid, name).map_err(|error| error.to_string())?;
        Ok(pid)
    }

    /// Lets one stand still for a time that it does not see. Tells when it has stopped.
    pub(super) async fn suspend(&mut self, turn: usize, time: Duration, stopped: impl FnOnce()) -> Result<u32, String> {
        let victim = self.victim(turn)?;
        let pid = victim.process.id();
        let clock = victim.clock.as_mut().ok_or("the worker was started without a clock of its own")?;
        clock.suspend(pid, time, stopped).await.map_err(|error| error.to_string())?;
        Ok(pid)
    }

    /// Asks all of them to stop, and waits.
    pub(super) async fn stop(&mut self) {
        for pid in self.pids() {
            let _ = signal(pid, "CONT");
            let _ = signal(pid, "TERM");
        }
        let deadline = crate::clock::now() + STOP_WITHIN;
        while crate::clock::now() < deadline {
            self.running.retain_mut(|worker| !matches!(worker.process.try_wait(), Ok(Some(_))));
            if self.running.is_empty() {
                return;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.kill();
    }

    /// Ends all of them at once.
    pub(super) fn kill(&mut self) {
        for worker in &mut self.running {
            let _ = worker.process.kill();
            let _ = worker.process.wait();
        }
        self.running.clear();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The same database, in a session that can be read on its way.
fn without_tls(url: &str) -> Result<String, String> {
    let mut url = url::Url::parse(url).map_err(|error| error.to_string())?;
    let others: Vec<_> =
        url.query_pairs().into_owned().filter(|(name, _)| name != "sslmode" && name != "ssl-mode").collect();
    url.query_pairs_mut().clear().extend_pairs(others).append_pair("sslmode", "disable");
    Ok(url.into())
}
