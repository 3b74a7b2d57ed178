//! One attempt is one HTTP request.

pub mod answer;
mod client;
pub mod clients;
mod descriptors;
mod exchange;
mod names;
pub mod oauth2;
mod own;
mod payload;
pub mod pool;
mod progress;
pub mod request;
mod resolver;
mod tls;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;
use url::Url;

use self::clients::Clients;
use self::exchange::Exchange;
use self::oauth2::Tokens;
use crate::clock;
use crate::domain::destination::{Destination, Destinations};
use crate::domain::event::Event;
use crate::domain::lease::may_send;
use crate::domain::verdict::{NotSent, Outcome};
use crate::handoff::{Attempt, Ended};
use crate::lease::Held;
use crate::telemetry::{metrics, trace};

/// What all attempts are sent by.
#[derive(Clone)]
pub struct Sender {
    /// The HTTP clients.
    pub clients: Arc<Clients>,
    /// What holds for each receiver now.
    pub destinations: watch::Receiver<Arc<Destinations>>,
    /// Bearer tokens, for those that want them.
    pub tokens: Tokens,
}

impl Sender {
    /// What holds for an event's receiver now, and where its requests go; none if that is not configured (any more).
    fn route(&self, event: &Event) -> Option<Route> {
        let destinations = self.destinations.borrow();
        let url = destinations.url(&event.destination)?.clone();
        Some(Route { url, destination: destinations.of(&event.host).clone() })
    }
}

/// Where one attempt goes, and what holds for it.
struct Route {
    url: Url,
    destination: Arc<Destination>,
}

/// Sends attempts until no more come, and all have ended.
pub async fn run(mut attempts: mpsc::Receiver<Attempt>, ended: mpsc::Sender<Ended>, sender: Sender) {
    let (running, mut destinations) = (TaskTracker::new(), sender.destinations.clone());
    loop {
        tokio::select! {
            attempt = attempts.recv() => {
                let Some(attempt) = attempt else { break };
                running.spawn(one(attempt, sender.clone(), ended.clone()));
            }
            Ok(()) = destinations.changed() => sender.clients.follow(&destinations.borrow_and_update()),
        }
    }
    running.close();
    running.wait().await;
}

async fn one(attempt: Attempt, sender: Sender, ended: mpsc::Sender<Ended>) {
    let Attempt { candidate, held, probes } = attempt;
    let Some(route) = sender.route(&candidate.event) else {
        let name = Arc::from(candidate.event.destination.as_str());
        sender.clients.tell("a destination is not configured any more", &name, &"events wait for it");
        let outcome = Some(Outcome::NotSent(NotSent::NoDestination));
        let _ = ended.send(Ended { candidate, held, outcome, took: None, destination: None }).await;
        return;
    };
    let (outcome, took) = match wait_for_cover(&held, route.destination.timeout).await {
        Cover::Until { begun, deadline } => {
            let method = &route.destination.request.method;
            let span = trace::attempt(&candidate.event, (&route.url, method), (candidate.attempts, probes));
            let traceparent = trace::traceparent(&span);
            let (sender, route, candidate) = (&sender, &route, &candidate);
            let outcome = Exchange { sender, route, candidate, traceparent, deadline }.run().await;
            let took = clock::now().saturating_sub(begun);
            let succeeded = route.destination.policy.succeeds(&outcome);
            trace::attempted(&span, &outcome, succeeded);
            metrics::attempted(&candidate.event.host, (&outcome, succeeded), Some((method, took)));
            (Some(outcome), Some(took))
        }
        Cover::Lapsed => (Some(Outcome::NotSent(NotSent::NotAllowed)), None),
        // Another owner has taken over, and settles what was recorded here.
        Cover::Lost => (None, None),
    };
    // It is judged by what held when it began, also if its destination is configured otherwise by now, or not at all.
    let destination = Some(route.destination);
    let _ = ended.send(Ended { candidate, held, outcome, took, destination }).await;
}

/// Whether an attempt may begin.
enum Cover {
    /// From now on; it has to be over by the deadline. Moments of the monotonic clock.
    Until {
        /// Now.
        begun: Duration,
        /// The end.
        deadline: Duration,
    },
    /// The leases ended and were taken again: this attempt's place at its host may be somebody else's by now.
    Lapsed,
    /// The lease is lost.
    Lost,
}

/// An attempt starts only if its deadline lies within the lease.
async fn wait_for_cover(held: &Held, timeout: Duration) -> Cover {
    let lapses = held.lapses();
    loop {
        let begun = clock::now();
        let deadline = begun + timeout;
        if held.covers(deadline) {
            return if held.lapses() == lapses { Cover::Until { begun, deadline } } else { Cover::Lapsed };
        }
        if held.is_lost() {
            return Cover::Lost;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Runs an attempt until its deadline. Looks at the clock before each step: after a pause of the whole process, what was
/// about to be sent is not sent any more.
async fn until<T>(deadline: Duration, attempt: impl Future<Output = T>) -> Option<T> {
    let attempt = async {
        let mut attempt = pin!(attempt);
        poll_fn(|context| {
            if may_send(clock::now(), deadline) { attempt.as_mut().poll(context).map(Some) } else { Poll::Ready(None) }
        })
        .await
    };
    tokio::time::timeout(deadline.saturating_sub(clock::now()), attempt).await.ok().flatten()
}
