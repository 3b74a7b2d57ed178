//! Does the harm of a run while its load goes on.

use std::sync::Arc;
use std::time::Duration;

use tokio::process::Command;

use super::args::VerifyArgs;
use super::link::{Commit, Lost, Then, Which};
use super::receive::Receivers;
use super::trouble::{Server, Trouble};
use super::watch::Watch;
use super::workers::Workers;
use crate::proof::chance::Chance;
use crate::proof::history::{self, Down};

/// From the moment at which a host listens again, to the first request: beyond the pause between probes, the time of one
/// probe that was under way, and what a busy machine takes.
const COMES_BACK: Duration = Duration::from_secs(8);
/// How long a slow link takes.
const SLOW: Duration = Duration::from_millis(50);
/// How long a connection is silent after a commit that was lost.
const SILENCE: Duration = Duration::from_millis(300);
/// Of so many commits, one is lost; half of these take place.
const ONE_IN: u64 = 5;
/// The longest time that a commit is late.
const LATE_MILLIS: u64 = 50;

/// What was done.
struct Done {
    what: String,
    /// See [`history::Trouble`].
    doubt_until: Option<Duration>,
    /// See [`history::Trouble`].
    down: Option<Down>,
}

/// Of a gate's probes, the pause doubles from one second to a minute: a host that was down for a time is probed again after
/// about as much at most.
fn longest_pause(down: Duration) -> Duration {
    (down + Duration::from_secs(1)).min(Duration::from_mins(1)) * 33 / 32 + COMES_BACK
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
        let from = watch.trouble_begins();
        let seed = args.seed.wrapping_add(turn as u64);
        let Done { what, doubt_until, down } = make(trouble, turn, seed, watch, workers, receivers).await?;
        watch.trouble(history::Trouble { what, from, to: watch.now(), doubt_until, down });
    }
    Ok(())
}

async fn make(
    trouble: &Trouble,
    turn: usize,
    seed: u64,
    watch: &Watch,
    workers: &mut Workers,
    receivers: &Receivers,
) -> Result<Done, String> {
    let show = humantime::format_duration;
    let done = |what| Done { what, doubt_until: Some(watch.now()), down: None };
    match trouble {
        Trouble::Kill => workers.kill_one(turn).map(done),
        Trouble::Pause(time) => pause(*time, turn, watch, workers).await,
        Trouble::Suspend(time) => suspend(*time, turn, watch, workers).await,
        Trouble::Receiver(time) => {
            receivers.set_away(true);
            tokio::time::sleep(*time).await;
            receivers.set_away(false);
            Ok(done(format!("the first host was away for {}", show(*time))))
        }
        Trouble::ReceiverDown(time) => {
            receivers.set_down(true);
            tokio::time::sleep(*time).await;
            receivers.set_down(false);
            let down = Down { host: 0, goes_on_within: longest_pause(*time) };
            let done = done(format!("the first host refused connections for {}", show(*time)));
            Ok(Done { down: Some(down), ..done })
        }
        Trouble::Cut(server, time) => {
            let link = workers.link(*server)?;
            link.cut();
            tokio::time::sleep(*time).await;
            link.heal();
            Ok(done(format!("cut the first worker's link to the {} for {}", server.name(), show(*time))))
        }
        Trouble::Slow(server, time) => {
            let link = workers.link(*server)?;
            link.set_delay(SLOW);
            tokio::time::sleep(*time).await;
            link.set_delay(Duration::ZERO);
            Ok(done(format!("slowed the first worker's link to the {} for {}", server.name(), show(*time))))
        }
        Trouble::CommitLost(time) => lose_commits(*time, seed, workers).await,
        Trouble::Run(command) => run(command).await.map(done),
    }
}

async fn pause(time: Duration, turn: usize, watch: &Watch, workers: &mut Workers) -> Result<Done, String> {
    let pid = workers.signal(turn, "STOP")?;
    // Nothing begins at a worker that stands still; and what it sends when it goes on has no excuse.
    let doubt_until = Some(watch.now());
    tokio::time::sleep(time).await;
    workers.signal(turn, "CONT")?;
    let what = format!("paused worker {pid} for {}", humantime::format_duration(time));
    Ok(Done { what, doubt_until, down: None })
}

async fn suspend(time: Duration, turn: usize, watch: &Watch, workers: &mut Workers) -> Result<Done, String> {
    let mut doubt_until = None;
    let pid = workers.suspend(turn, time, || doubt_until = Some(watch.now())).await?;
    let what = format!("suspended worker {pid} for {}", humantime::format_duration(time));
    Ok(Done { what, doubt_until, down: None })
}

async fn lose_commits(time: Duration, seed: u64, workers: &Workers) -> Result<Done, String> {
    let link = workers.link(Server::Database)?;
    let before = link.lost_commits();
    link.on_commits(Which::Any, fates(seed));
    tokio::time::sleep(time).await;
    link.on_commits(Which::Any, []);
    let (lost, time) = (link.lost_commits() - before, humantime::format_duration(time));
    // The worker keeps its leases, and can find out what was recorded: nothing is left in doubt.
    Ok(Done {
        what: format!("lost {lost} commits of the first worker's, or their answers, in {time}"),
        doubt_until: None,
        down: None,
    })
}

/// What becomes of one commit after the other.
fn fates(seed: u64) -> impl Iterator<Item = Commit> {
    let mut chance = Chance::new(seed);
    std::iter::from_fn(move || {
        let lost = |lost| Commit::Lose(lost, Then::Reset(SILENCE));
        Some(match chance.below(2 * ONE_IN) {
            0 => lost(Lost::Request),
            1 => lost(Lost::Answer),
            2 => Commit::Delay(Duration::from_millis(chance.below(LATE_MILLIS))),
            _ => Commit::Pass,
        })
    })
}

async fn run(command: &str) -> Result<String, String> {
    match Command::new("sh").arg("-c").arg(command).status().await {
        Ok(status) if status.success() => Ok(format!("ran {command}")),
        Ok(status) => Err(format!("the trouble {command:?} failed: {status}")),
        Err(error) => Err(format!("the trouble {command:?} could not be run: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_commit_in_five_is_lost_and_the_same_ones_for_the_same_seed() {
        let some = |seed| fates(seed).take(10_000).collect::<Vec<_>>();
        assert_eq!(some(3), some(3));
        assert_ne!(some(3), some(4));
        for lost in [Lost::Request, Lost::Answer] {
            let count = some(3).iter().filter(|fate| **fate == Commit::Lose(lost, Then::Reset(SILENCE))).count();
            assert!((900..1_100).contains(&count), "{count} times {lost:?}");
        }
    }
}
