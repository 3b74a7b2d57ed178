//! Names and their addresses: asked once at a time for each name, kept as long as their TTL, within limits of their own.

mod system;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::Shared;
use tokio::sync::{Semaphore, oneshot};

use self::system::Servers;
use crate::clock;

/// Names that are asked for at a time.
const AT_A_TIME: usize = 256;
/// Of names that nobody answered for when they were asked for last: a name server that is silent holds up its own names, and
/// not the turns of all others.
const SILENT_AT_A_TIME: usize = 64;
/// Names that are remembered; beyond that, those whose time is over are forgotten first.
const REMEMBERED: usize = 4_096;
/// The least time that addresses are kept, whatever their TTL.
const KEPT_AT_LEAST: Duration = Duration::from_secs(1);
/// How long it is remembered that a name could not be resolved: many events ask at the same moment, and the next attempt is to
/// find out anew.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// The part of an attempt that its name may take, in percent: what is slower leaves no time for the request.
const PART_OF_AN_ATTEMPT: u32 = 60;

/// Why a name has no addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unresolved {
    /// It had no turn in time: too many names are asked for.
    Busy,
    /// There is no such name, or nobody says so.
    Failed(Arc<str>),
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("too many names are being resolved"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Unresolved {}

type Answer = Result<Arc<[IpAddr]>, Unresolved>;

/// Addresses of a name, and how long they hold.
type Found = (Vec<IpAddr>, Duration);

/// What came of asking.
enum Asked {
    Found(Found),
    /// The name servers' own words.
    None(String),
    /// Nobody answered in time.
    Silence,
}

#[derive(Clone)]
enum Known {
    /// Somebody is asking, and tells all who wait.
    Asking(Shared<oneshot::Receiver<Answer>>),
    Answered {
        answer: Answer,
        until: Duration,
        was_silent: bool,
    },
}

/// The addresses of names.
#[derive(Clone)]
pub struct Names(Arc<Inner>);

struct Inner {
    servers: Servers,
    /// Time for one name in all.
    within: Duration,
    /// The most time that addresses are kept, whatever their TTL.
    kept_at_most: Duration,
    known: Mutex<HashMap<String, Known>>,
    turns: Semaphore,
    turns_of_silent: Semaphore,
}

impl Names {
    /// Asks these name servers, or the system's if there are none.
    #[must_use]
    pub fn new(servers: &[SocketAddr], attempt_timeout: Duration, kept_at_most: Duration) -> Self {
        let within = attempt_timeout * PART_OF_AN_ATTEMPT / 100;
        Self(Arc::new(Inner {
            servers: Servers::new(servers, within),
            within,
            kept_at_most: kept_at_most.max(KEPT_AT_LEAST),
            known: Mutex::default(),
            turns: Semaphore::new(AT_A_TIME),
            turns_of_silent: Semaphore::new(SILENT_AT_A_TIME),
        }))
    }

    /// The addresses of a name, at least one.
    pub(super) async fn resolve(&self, name: &str) -> Answer {
        let answer = {
            let mut known = self.0.known();
            let was_silent = match known.get(name) {
                Some(Known::Answered { answer, until, .. }) if *until > clock::now() => return answer.clone(),
                Some(Known::Asking(answer)) => Ok(answer.clone()),
                Some(Known::Answered { was_silent, .. }) => Err(*was_silent),
                None => Err(false),
            };
            match was_silent {
                Ok(answer) => answer,
                Err(was_silent) => {
                    make_room(&mut known);
                    let (tell, answer) = oneshot::channel();
                    let answer = answer.shared();
                    known.insert(name.to_owned(), Known::Asking(answer.clone()));
                    // Whoever waits may give up; the others don't begin again for that.
                    tokio::spawn(self.clone().ask(name.to_owned(), was_silent, tell));
                    answer
                }
            }
        };
        answer.await.unwrap_or_else(|_| {
            // Whoever asked has ended without an answer: the next one asks anew.
            self.0.known().remove(name);
            Err(Unresolved::Busy)
        })
    }

    async fn ask(self, name: String, was_silent: bool, tell: oneshot::Sender<Answer>) {
        let inner = &self.0;
        let turns = if was_silent { &inner.turns_of_silent } else { &inner.turns };
        let (answer, kept, was_silent) = match tokio::time::timeout(inner.within, turns.acquire()).await {
            Ok(Ok(_turn)) => {
                let asked = tokio::time::timeout(inner.within, inner.servers.ask(&name)).await;
                inner.judge(asked.unwrap_or(Asked::Silence))
            }
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => (Err(Unresolved::Busy), Duration::ZERO, was_silent),
        };
        let until = clock::now() + kept;
        inner.known().insert(name, Known::Answered { answer: answer.clone(), until, was_silent });
        // Nobody may be waiting any more.
        let _ = tell.send(answer);
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is told, how long it is kept, and whether the name servers were silent.
    fn judge(&self, asked: Asked) -> (Answer, Duration, bool) {
        let failed = |why: String| Err(Unresolved::Failed(why.into()));
        match asked {
            Asked::Found((addresses, ttl)) if !addresses.is_empty() => {
                (Ok(addresses.into()), ttl.clamp(KEPT_AT_LEAST, self.kept_at_most), false)
            }
            Asked::Found(_) => (failed("the name has no addresses".into()), FAILED_FOR, false),
            Asked::None(why) => (failed(why), FAILED_FOR, false),
            Asked::Silence => {
                let within = humantime::format_duration(self.within);
                (failed(format!("no name server answered within {within}")), FAILED_FOR, true)
            }
        }
    }
}

fn make_room(known: &mut HashMap<String, Known>) {
    if known.len() < REMEMBERED {
        return;
    }
    let now = clock::now();
    known.retain(|_, known| !matches!(known, Known::Answered { until, .. } if *until <= now));
    if known.len() >= REMEMBERED {
        // All of them in use: any half of those that nobody waits for is asked for again.
        let mut turn = false;
        known.retain(|_, known| {
            turn = !turn;
            turn || matches!(known, Known::Asking(_))
        });
    }
}

#[cfg(test)]
mod tests;
