//! Harm that is done while the load runs: what there is. It is done in [`super::harm`].

use std::str::FromStr;
use std::time::Duration;

/// One kind of harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// SIGKILL to a worker; another one is started.
    Kill,
    /// SIGSTOP to a worker, and SIGCONT after a time.
    Pause(Duration),
    /// The same, and for the worker it was no time: its machine was suspended.
    Suspend(Duration),
    /// The first host closes every connection for a time.
    Receiver(Duration),
    /// The first host refuses connections for a time. When it listens again, deliveries have to go on soon.
    ReceiverDown(Duration),
    /// The first worker's link to a server is cut for a time: bytes are gone, and nobody is told.
    Cut(Server, Duration),
    /// The first worker's link to a server is slow for a time: a moment more for each piece, in each direction.
    Slow(Server, Duration),
    /// For a time, commits on the first worker's link to the database are lost or late at random. Of one that is lost the
    /// worker has no answer, and can't tell whether it took place; its connection is reset.
    CommitLost(Duration),
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
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Database => "database",
        }
    }
}

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
            Some(("suspend", rest)) => time(rest).map(Self::Suspend),
            Some(("commit-lost", rest)) => time(rest).map(Self::CommitLost),
            Some(("receiver", rest)) => time(rest).map(Self::Receiver),
            Some(("receiver-down", rest)) => time(rest).map(Self::ReceiverDown),
            Some(("cut", rest)) => link(rest).map(|(server, time)| Self::Cut(server, time)),
            Some(("slow", rest)) => link(rest).map(|(server, time)| Self::Slow(server, time)),
            Some(("run", command)) if !command.is_empty() => Ok(Self::Run(command.into())),
            _ => {
                Err("write kill, pause=5s, suspend=5s, cut=database:5s, slow=broker:5s, commit-lost=5s, receiver=5s, \
                      receiver-down=60s or run=COMMAND"
                    .into())
            }
        }
    }
}

impl Trouble {
    /// Whether it is done to a worker of the run's own.
    pub(super) fn needs_a_worker(&self) -> bool {
        matches!(self, Self::Kill | Self::Pause(_) | Self::Suspend(_)) || self.needs_a_link()
    }

    /// Whether it is done to a worker's link to a server.
    pub(super) fn needs_a_link(&self) -> bool {
        matches!(self, Self::Cut(..) | Self::Slow(..)) || self.reads_commits()
    }

    /// Whether it has to understand what is said to the database.
    pub(super) fn reads_commits(&self) -> bool {
        matches!(self, Self::CommitLost(_))
    }

    /// Whether it is done to a worker's clock.
    pub(super) fn needs_a_clock(&self) -> bool {
        matches!(self, Self::Suspend(_))
    }
}
