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
use crate::store::members::{self, Member, ShownDestinations};
use crate::telemetry::{metrics, transaction};

/// How often the file is looked at: also where a link that leads to it is swapped, as Kubernetes does for a `ConfigMap`.
const LOOK: Duration = Duration::from_secs(5);

/// The most limits that others are shown: the least of them, which many workers may pass together.
const LIMITS_SHOWN: usize = 100;

/// Where settings come from.
#[derive(Clone)]
struct Source {
    /// The file.
    path: PathBuf,
    /// What holds where it says nothing.
    defaults: Destination,
    /// What a worker can bear.
    limits: Limits,
    /// Where events without a destination go.
    default_destination: Option<Target>,
}

impl Source {
    fn of(args: &WorkerArgs) -> Option<Self> {
        let (lease, drain_time, max_in_flight) = (args.lease, args.drain_time, args.max_in_flight);
        let limits = Limits { lease, drain_time, max_in_flight };
        let default_destination = args.default_destination.clone();
        args.destinations.clone().map(|path| Self { path, defaults: args.defaults(), limits, default_destination })
    }

    /// Reads the file.
    ///
    /// # Errors
    /// What is wrong with it, with line and column.
    fn read(&self) -> Result<Destinations, String> {
        let destinations = read(&self.path, &self.defaults, self.limits).map_err(|refused| refused.to_string())?;
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
    if let Some(source) = Source::of(args) {
        return source.read();
    }
    let destinations = Destinations::new(args.defaults());
    has_default(&destinations, args.default_destination.as_ref()).map(|()| destinations)
}

/// Follows the file, if there is one, until `stop`. `live` is what holds, and what says that the file is to be read at once;
/// `shown` is where others see which version a worker has.
pub fn follow(
    args: &WorkerArgs,
    live: (watch::Sender<Arc<Destinations>>, Arc<Notify>),
    shown: (PgPool, Member),
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let source = Source::of(args);
    async move {
        match source {
            Some(source) => Follow { source, live, shown }.run(stop).await,
            None => stop.cancelled().await,
        }
    }
}

/// Follows the file.
struct Follow {
    /// The file.
    source: Source,
    /// What holds now, and what says that the file is to be read at once: SIGHUP.
    live: (watch::Sender<Arc<Destinations>>, Arc<Notify>),
    /// Where others see which version this worker has.
    shown: (PgPool, Member),
}

impl Follow {
    async fn run(self, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut refused = None;
        loop {
            let asked = tokio::select! {
                () = stop.cancelled() => return,
                _ = look.tick() => false,
                () = self.live.1.notified() => true,
            };
            refused = self.look(refused, asked).await;
            self.show(refused.as_deref()).await;
        }
    }

    /// Reads the file, and has others know of a change. Gives why it is refused, if it is; `before`, if it was before.
    async fn look(&self, before: Option<String>, asked: bool) -> Option<String> {
        let source = self.source.clone();
        let read = spawn_blocking(move || source.read()).await.unwrap_or_else(|failed| Err(failed.to_string()));
        let refused = match read {
            Ok(destinations) => {
                let is_another = destinations.digest != self.live.0.borrow().digest;
                if is_another {
                    let entries = destinations.all().count() - 1;
                    tracing::info!(
                        entries,
                        digest = destinations.digest,
                        "destinations: the file has changed, and holds"
                    );
                    self.live.0.send_replace(Arc::new(destinations));
                } else if asked || before.is_some() {
                    tracing::info!("destinations: the file is the one that holds");
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
        let live = self.live.0.borrow().clone();
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
