//! `onceward redrive`: an operator's decision on FAILED events, sent to the worker that owns them.

use clap::Args;
use sqlx::Connection as _;
use tokio_util::sync::CancellationToken;

use super::output::{self, OutputError};
use crate::broker::Nodes;
use crate::broker::delay::{self, Due};
use crate::broker::publisher::{PublishError, Publisher};
use crate::broker::topology::Names;
use crate::config::{BrokerArgs, DatabaseArgs};
use crate::domain::event::{EventId, Partition};
use crate::domain::lifecycle::State;
use crate::store::status::{self, Found};
use crate::store::{self, Database};
use crate::telemetry;

/// How long the broker may take to be reached.
const CONNECT_WITHIN: std::time::Duration = std::time::Duration::from_secs(10);
/// How long it may take to confirm a decision.
const CONFIRM_WITHIN: std::time::Duration = std::time::Duration::from_secs(30);

/// The arguments of `onceward redrive`.
#[derive(Clone, Debug, Args)]
pub struct RedriveArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub broker: BrokerArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub database: DatabaseArgs,
    /// Let the entity go on without the event, instead of sending it again
    #[arg(long)]
    pub skip: bool,
    /// The idempotency keys of FAILED events
    #[arg(required = true, value_name = "KEY")]
    pub keys: Vec<String>,
}

/// Why events were not redriven.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// The database failed.
    #[error("{}", crate::store::explain(.0))]
    Database(#[from] sqlx::Error),
    /// No worker has run here.
    #[error("this database holds no Onceward yet: `onceward worker` sets it up when it first starts")]
    Empty,
    /// The broker can't be reached.
    #[error("the broker can't be reached at {0}")]
    NoBroker(String),
    /// A message was not confirmed.
    #[error("the broker: {0}")]
    Publish(#[from] PublishError),
    /// Some keys name no FAILED event.
    #[error("{0} of the keys name no FAILED event")]
    NotFailed(usize),
    /// What was done could not be written: it was done nevertheless.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Asks the owners to carry the decision out.
///
/// # Errors
/// What could not be asked.
pub async fn run(args: &RedriveArgs) -> Result<(), RedriveError> {
    let mut connection = Database::new(&args.database.database_url, "onceward redrive")?.connect().await?;
    let stop = CancellationToken::new();
    let nodes = Nodes::new(&args.broker.amqp_url).for_command("onceward redrive");
    let (publisher, keep) = Publisher::new(nodes, stop.clone());
    let keeper = tokio::spawn(keep);
    if tokio::time::timeout(CONNECT_WITHIN, publisher.connected()).await.is_err() {
        return Err(RedriveError::NoBroker(args.broker.amqp_url.to_string()));
    }
    let names = Names::new(&args.broker.exchange);
    let (mut not_failed, mut told) = (0, Ok(()));
    for key in &args.keys {
        let found = status::find(&mut connection, key).await;
        match found.map_err(|error| if store::is_empty(&error) { RedriveError::Empty } else { error.into() })? {
            Some(Found { id, partition, state: State::Failed, failed_us }) => {
                let asked = ask(&publisher, &names, id, partition, args.skip, failed_us);
                tokio::time::timeout(CONFIRM_WITHIN, asked).await.unwrap_or(Err(PublishError::TimedOut))?;
                let done = output::line(format_args!("{key}: {}", if args.skip { "skipped" } else { "sent again" }));
                // Whatever becomes of the lines, all keys are carried out.
                told = told.and(done);
            }
            Some(Found { state, .. }) => {
                telemetry::tell(format_args!("{key}: is {state}, not FAILED"));
                not_failed += 1;
            }
            None => {
                telemetry::tell(format_args!("{key}: no such event"));
                not_failed += 1;
            }
        }
    }
    stop.cancel();
    let _ = keeper.await;
    connection.close().await?;
    told?;
    if not_failed == 0 { Ok(()) } else { Err(RedriveError::NotFailed(not_failed)) }
}

async fn ask(
    publisher: &Publisher,
    names: &Names,
    id: EventId,
    partition: Partition,
    skip: bool,
    failed_us: Option<i64>,
) -> Result<(), PublishError> {
    let due = if skip { Due::Skip(id) } else { Due::Redrive(id) };
    let key = delay::routing_key(std::time::Duration::ZERO, partition);
    let properties = failed_us.map(delay::decision).unwrap_or_default();
    publisher.store(&names.due_exchange(), &key, properties, due.write().as_bytes()).await
}
