//! Workers that a run starts for itself.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::args::VerifyArgs;
use super::link::Link;
use super::trouble::{Server, Trouble};

/// How long a worker may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(40);

/// The workers of a run.
pub(super) struct Workers {
    args: VerifyArgs,
    running: Vec<Child>,
    /// The first worker's, if there is a trouble that needs them.
    links: Option<Links>,
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
        if self.args.trouble.iter().any(Trouble::needs_a_link) {
            let broker = Link::to(self.args.broker.amqp_url.first().reveal()).await?;
            let database = Link::to(self.args.database.database_url.reveal()).await?;
            self.links = Some(Links { broker, database });
        }
        for number in 0..usize::from(self.args.workers) {
            let child = self.spawn(number)?;
            self.running.push(child);
        }
        Ok(())
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
                Ok((links.broker.through(broker.first().reveal())?, links.database.through(database)?))
            }
            _ => Ok((broker.reveal_from(number), database.into())),
        }
    }

    fn spawn(&self, number: usize) -> Result<Child, String> {
        let args = &self.args;
        let (broker, database) = self.urls(number)?;
        let failed = |error: std::io::Error| format!("a worker can't be started: {error}");
        let log = match &args.worker_log {
            Some(path) => {
                let opened = File::options().create(true).append(true).open(path);
                opened.map_err(|error| format!("{}: {error}", path.display()))?.into()
            }
            None => Stdio::null(),
        };
        let time = |time| humantime::format_duration(time).to_string().replace(' ', "");
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command
            .arg("worker")
            .arg(format!("--exchange={}", args.broker.exchange))
            .arg(format!("--partitions={}", args.partitions))
            .arg(format!("--host-connections={}", args.host_connections))
            .arg(format!("--max-attempts={}", args.max_attempts))
            .arg(format!("--backoff-initial={}", time(args.backoff_initial)))
            .arg(format!("--backoff-max={}", time(args.backoff_max)))
            .arg(format!("--attempt-timeout={}", time(args.attempt_timeout)))
            // Several on one machine can't share the usual port.
            .arg("--admin-listen=127.0.0.1:0")
            .args(&args.worker_flag)
            .env("ONCEWARD_AMQP_URL", broker)
            .env("ONCEWARD_DATABASE_URL", database)
            // The run's own, which would say the same twice.
            .env_remove("ONCEWARD_AMQP_URL_FILE")
            .env_remove("ONCEWARD_DATABASE_URL_FILE")
            .env("ONCEWARD_LOG_FORMAT", "text")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        command.spawn().map_err(failed)
    }

    /// Process ids of those that run.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.running.iter().map(Child::id).collect()
    }

    /// Kills one and starts another in its place. Gives what was done.
    pub(super) fn kill_one(&mut self, turn: usize) -> Result<String, String> {
        let victim = turn % self.running.len().max(1);
        let next = self.spawn(victim)?;
        let Some(child) = self.running.get_mut(victim) else { return Err("no worker is left".into()) };
        let pid = child.id();
        child.kill().and_then(|()| child.wait()).map_err(|error| format!("kill {pid}: {error}"))?;
        *child = next;
        Ok(format!("killed worker {pid}, started another"))
    }

    /// Stops one in the middle of whatever it does, or lets it go on.
    pub(super) fn signal(&self, turn: usize, signal: &str) -> Result<u32, String> {
        let pids = self.pids();
        let pid = pids.get(turn % pids.len().max(1)).copied().ok_or("no worker is left")?;
        send(pid, signal)?;
        Ok(pid)
    }

    /// Asks all of them to stop, and waits.
    pub(super) async fn stop(&mut self) {
        for pid in self.pids() {
            let _ = send(pid, "CONT");
            let _ = send(pid, "TERM");
        }
        let deadline = crate::clock::now() + STOP_WITHIN;
        while crate::clock::now() < deadline {
            self.running.retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
            if self.running.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.kill();
    }

    /// Ends all of them at once.
    pub(super) fn kill(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.running.clear();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.kill();
    }
}

fn send(pid: u32, signal: &str) -> Result<(), String> {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).stderr(Stdio::null()).status();
    match sent {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("process {pid} could not be sent SIG{signal}")),
        Err(error) => Err(format!("kill: {error}")),
    }
}
