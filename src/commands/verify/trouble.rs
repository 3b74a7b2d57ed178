//! Harm that is done while the load runs.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;

use super::args::VerifyArgs;
use super::receive::Receivers;
use super::watch::Watch;
use super::workers::Workers;
use crate::proof::history;

/// One kind of harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// SIGKILL to a worker; another one is started.
    Kill,
    /// SIGSTOP to a worker, and SIGCONT after a time.
    Pause(Duration),
    /// The first host closes every connection for a time.
    Receiver(Duration),
    /// The first worker's link to a server is cut for a time: bytes are gone, and nobody is told.
    Cut(Server, Duration),
    /// The first worker's link to a server is slow for a time: [`SLOW`] for each piece, in each direction.
    Slow(Server, Duration),
    /// A shell command.
    Run(String),
}

/// What a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// RabbitMQ.
    Broker,
    /// Postgres.
    Database,
}

impl Server {
    fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Database => "database",
        }
    }
}

/// How long a slow link takes.
const SLOW: Duration = Duration::from_millis(50);

impl FromStr for Trouble {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = |text: &str| humantime::parse_duration(text).map_err(|error| format!("{text:?}: {error}"));
        let link = |text: &str| match text.split_once(':') {
            Some(("broker", rest)) => Ok((Server::Broker, time(rest)?)),
            Some(("database", rest)) => Ok((Server::Database, time(rest)?)),
            _ => Err(format!("{text:?}: write broker:5s or database:5s")),
        };
        match text.split_once('=') {
            None if text == "kill" => Ok(Self::Kill),
            Some(("pause", rest)) => time(rest).map(Self::Pause),
            Some(("receiver", rest)) => time(rest).map(Self::Receiver),
            Some(("cut", rest)) => link(rest).map(|(server, time)| Self::Cut(server, time)),
            Some(("slow", rest)) => link(rest).map(|(server, time)| Self::Slow(server, time)),
            Some(("run", command)) if !command.is_empty() => Ok(Self::Run(command.into())),
            _ => Err("write kill, pause=5s, cut=database:5s, slow=broker:5s, receiver=5s or run=COMMAND".into()),
        }
    }
}

impl Trouble {
    /// Whether it is done to a worker of the run's own.
    pub(super) fn needs_a_worker(&self) -> bool {
        matches!(self, Self::Kill | Self::Pause(_)) || self.needs_a_link()
    }

    /// Whether it is done to a worker's link to a server.
    pub(super) fn needs_a_link(&self) -> bool {
        matches!(self, Self::Cut(..) | Self::Slow(..))
    }
}

/// Does all of it, one after the other, once deliveries have begun.
pub(super) async fn all(
    args: &VerifyArgs,
    watch: &Arc<Watch>,
    workers: &mut Workers,
    receivers: &Receivers,
) -> Result<(), String> {
    if args.trouble.is_empty() {
        return Ok(());
    }
    watch.delivered_at_least(1).await;
    for (turn, trouble) in args.trouble.iter().enumerate() {
        tokio::time::sleep(args.trouble_every).await;
        let from = watch.now();
        let what = make(trouble, turn, workers, receivers).await?;
        watch.trouble(history::Trouble { what, from, to: watch.now() });
    }
    Ok(())
}

async fn make(trouble: &Trouble, turn: usize, workers: &mut Workers, receivers: &Receivers) -> Result<String, String> {
    let show = humantime::format_duration;
    match trouble {
        Trouble::Kill => workers.kill_one(turn),
        Trouble::Pause(time) => {
            let pid = workers.signal(turn, "STOP")?;
            tokio::time::sleep(*time).await;
            workers.signal(turn, "CONT")?;
            Ok(format!("paused worker {pid} for {}", show(*time)))
        }
        Trouble::Receiver(time) => {
            receivers.set_away(true);
            tokio::time::sleep(*time).await;
            receivers.set_away(false);
            Ok(format!("the first host was away for {}", show(*time)))
        }
        Trouble::Cut(server, time) => {
            let link = workers.link(*server)?;
            link.cut();
            tokio::time::sleep(*time).await;
            link.heal();
            Ok(format!("cut the first worker's link to the {} for {}", server.name(), show(*time)))
        }
        Trouble::Slow(server, time) => {
            let link = workers.link(*server)?;
            link.set_delay(SLOW);
            tokio::time::sleep(*time).await;
            link.set_delay(Duration::ZERO);
            Ok(format!("slowed the first worker's link to the {} for {}", server.name(), show(*time)))
        }
        Trouble::Run(command) => {
            let status = Command::new("sh").arg("-c").arg(command).status().await;
            match status {
                Ok(status) if status.success() => Ok(format!("ran {command}")),
                Ok(status) => Err(format!("the trouble {command:?} failed: {status}")),
                Err(error) => Err(format!("the trouble {command:?} could not be run: {error}")),
            }
        }
    }
}
