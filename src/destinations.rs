//! What holds for receivers, as it is now: the file of destinations is read at the start, and again on SIGHUP and when it, or
//! a file that it names, has changed. All or nothing: one that is refused changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::config::WorkerArgs;
use crate::config::destinations::{Limits, read};
use crate::domain::destination::{Destination, Destinations};
use crate::domain::event::Target;
use crate::service::Service;
use crate::store::members::{self, Member, ShownDestinations};
use crate::telemetry::{metrics, transaction};

/// How often the file is looked at: also where a link that leads to it is swapped, as Kubernetes does for a `ConfigMap`.
const LOOK: Duration = Duration::from_secs(5);

/// The most limits that others are shown: the least of them, which many workers may pass together.
const LIMITS_SHOWN: usize = 100;

/// Where settings come from.
#[derive(Clone)]
struct Source {
    /// The file; without one, the flags say what holds.
    path: Option<PathBuf>,
    /// What holds where it says nothing.
    defaults: Destination,
    /// What a worker can bear.
    limits: Limits,
    /// Where events without a destination go.
    default_destination: Option<Target>,
}

impl Source {
    fn of(args: &WorkerArgs) -> Self {
        let (lease, drain_time, max_in_flight) = (args.lease, args.drain_time, args.max_in_flight);
        let limits = Limits { lease, drain_time, max_in_flight };
        let default_destination = args.default_destination.clone();
        Self { path: args.destinations.clone(), defaults: args.defaults(), limits, default_destination }
    }

    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// What is wrong with it, with line and column.
    fn read(&self) -> Result<Destinations, String> {
        let destinations = match &self.path {
            Some(path) => read(path, &self.defaults, self.limits).map_err(|refused| refused.to_string())?,
            None => Destinations::new(self.defaults.clone()),
        };
        has_default(&destinations, self.default_destination.as_ref())?;
        Ok(destinations)
    }
}

/// Events without a destination have to go somewhere that there is.
///
/// # Errors
/// One line that says what to write.
fn has_default(destinations: &Destinations, default: Option<&Target>) -> Result<(), String> {
    match default {
        Some(Target::Name(name)) if destinations.named(name).is_none() => Err(format!(
            "--default-destination is {name:?}, which is no URL, and no destination of this name is configured: write a URL \
             (https://…), or add [names.{name}] to the file of --destinations"
        )),
        _ => Ok(()),
    }
}

/// What holds at the start.
///
/// # Errors
/// What is wrong, and what to write instead.
pub fn at_start(args: &WorkerArgs) -> Result<Destinations, String> {
    Source::of(args).read()
}

/// How settings are read at once: SIGHUP asks for it.
#[derive(Clone)]
pub struct Again {
    /// Says that they are to be.
    pub asked: Arc<Notify>,
    /// Reads the worker's own; none if there is nothing new.
    pub read: Arc<dyn Fn() -> Option<WorkerArgs> + Send + Sync>,
    /// Who is told that it is done.
    pub service: Arc<Service>,
}

/// Follows the file, if there is one, and the worker's settings, until `stop`. `live` is what holds, and what has it read at
/// once; `shown` is where others see which version a worker has.
pub fn follow(
    args: &WorkerArgs,
    (live, again): (watch::Sender<Arc<Destinations>>, Again),
    shown: (PgPool, Member),
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    Follow { source: Source::of(args), live, again, shown }.run(stop)
}

/// Follows the file.
struct Follow {
    source: Source,
    /// What holds now.
    live: watch::Sender<Arc<Destinations>>,
    again: Again,
    /// Where others see which version this worker has.
    shown: (PgPool, Member),
}

impl Follow {
    async fn run(mut self, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refused = None;
        loop {
            let has_file = self.source.path.is_some();
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick(), if has_file => false,
                () = self.again.asked.notified() => true,
            };
            let is_new = asked && self.read_again().await;
            if has_file {
                refused = self.look(refused, (asked, is_new)).await;
                self.show(refused.as_deref()).await;
            } else if is_new && let Ok(destinations) = self.source.read() {
                self.live.send_replace(Arc::new(destinations));
            }
            if asked {
                self.again.service.has_reloaded();
            }
        }
    }

    /// Reads the worker's own settings. Whether others hold from now on.
    async fn read_again(&mut self) -> bool {
        self.again.service.reloads();
        let read = Arc::clone(&self.again.read);
        let args = spawn_blocking(move || read()).await.ok().flatten();
        if let Some(args) = &args {
            self.source = Source::of(args);
        }
        args.is_some()
    }

    /// Reads the file, and has others know of a change. Gives why it is refused, if it is; `before`, if it was before. `is_new`:
    /// what holds where it says nothing may be something else than before.
    async fn look(&self, before: Option<String>, (asked, is_new): (bool, bool)) -> Option<String> {
        let source = self.source.clone();
        let read = spawn_blocking(move || source.read()).await.unwrap_or_else(|failed| Err(failed.to_string()));
        let refused = match read {
            Ok(destinations) => {
                let is_another = destinations.digest != self.live.borrow().digest;
                if is_another {
                    let entries = destinations.all().count() - 1;
                    tracing::info!(
                        entries,
                        digest = destinations.digest,
                        "destinations: the file has changed, and holds"
                    );
                } else if asked || before.is_some() {
                    tracing::info!("destinations: the file is the one that holds");
                }
                if is_another || is_new {
                    self.live.send_replace(Arc::new(destinations));
                }
                None
            }
            Err(wrong) => {
                if asked || before.as_ref() != Some(&wrong) {
                    tracing::error!("destinations: the file is refused, and what held before goes on: {wrong}");
                }
                Some(wrong)
            }
        };
        metrics::destinations_refused(refused.is_some());
        refused
    }

    /// Shows other workers, and people, what this worker has. The next look makes good for one that failed.
    async fn show(&self, refused: Option<&str>) {
        let live = self.live.borrow().clone();
        let (digest, limits) = (&*live.digest, &*least_limits(&live));
        let shown = async {
            let (pool, member) = &self.shown;
            let mut connection = pool.acquire().await?;
            members::show_destinations(&mut connection, member, ShownDestinations { digest, refused, limits }).await
        };
        if let Err(error) = transaction("show_destinations", shown).await {
            tracing::debug!(%error, "which destinations hold could not be shown to others; it is tried again");
        }
    }
}

/// The entries with the least `connections`.
fn least_limits(destinations: &Destinations) -> Vec<(&str, u16)> {
    let mut limits: Vec<(u16, &str)> =
        destinations.all().filter_map(|entry| Some((entry.connections?, &*entry.entry))).collect();
    limits.sort_unstable();
    limits.truncate(LIMITS_SHOWN);
    limits.into_iter().map(|(limit, entry)| (entry, limit)).collect()
}
