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
    /// A shell command.
    Run(String),
}

impl FromStr for Trouble {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = |text: &str| humantime::parse_duration(text).map_err(|error| format!("{text:?}: {error}"));
        match text.split_once('=') {
            None if text == "kill" => Ok(Self::Kill),
            Some(("pause", rest)) => time(rest).map(Self::Pause),
            Some(("receiver", rest)) => time(rest).map(Self::Receiver),
            Some(("run", command)) if !command.is_empty() => Ok(Self::Run(command.into())),
            _ => Err("write kill, pause=5s, receiver=5s or run=COMMAND".into()),
        }
    }
}

impl Trouble {
    /// Whether it is done to a worker of the run's own.
    pub(super) fn needs_a_worker(&self) -> bool {
        matches!(self, Self::Kill | Self::Pause(_))
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
