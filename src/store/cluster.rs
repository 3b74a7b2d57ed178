//! The settings that are fixed when the topology is first declared.

use sqlx::PgConnection;

use super::sql::cluster as sql;

/// Why a worker with these settings can't join.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Another number of partitions.
    #[error(
        "this database was set up with {recorded} partitions, but --partitions is {asked}: start with \
         --partitions {recorded}. The count can't change while events are open, because it decides which queue an \
         entity belongs to"
    )]
    Partitions {
        /// What the database holds.
        recorded: i32,
        /// What the settings say.
        asked: i32,
    },
    /// Another exchange.
    #[error(
        "this database was set up for the exchange `{recorded}`, but --exchange is `{asked}`: use --exchange \
         {recorded}, or a database of its own"
    )]
    Exchange {
        /// What the database holds.
        recorded: String,
        /// What the settings say.
        asked: String,
    },
    /// Another place of the entity.
    #[error(
        "this database was set up with --entity-from {recorded}, but it is {asked}: start with --entity-from {recorded}. \
         It can't change while events are open, because it decides which queue an entity belongs to; take another \
         --exchange, with a database of its own"
    )]
    EntityFrom {
        /// What the database holds.
        recorded: String,
        /// What the settings say.
        asked: String,
    },
    /// The workers that run find the numbers in another place.
    #[error(
        "the workers that run have --sequence-from {recorded}, but it is {asked}: start with --sequence-from {recorded}. It decides \
         the order of events; to change it, stop all workers first"
    )]
    SequenceFrom {
        /// What the database holds.
        recorded: String,
        /// What the settings say.
        asked: String,
    },
    /// A newer program has changed the schema so that this one would do harm.
    #[error(
        "this database was brought up to date by a newer onceward: its schema may be used by programs that know \
         migration {needed}, and onceward {} knows them up to {known}. Start the newer one",
        env!("CARGO_PKG_VERSION")
    )]
    Schema {
        /// The least migration.
        needed: i64,
        /// The last one that this program has.
        known: i64,
    },
    /// A newer program has declared the queues.
    #[error(
        "the exchanges and queues were declared by a newer onceward (version {recorded} of them, and onceward {} \
         knows {known}). Start the newer one",
        env!("CARGO_PKG_VERSION")
    )]
    Topology {
        /// What the database holds.
        recorded: i32,
        /// What this program declares.
        known: i32,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// The settings that are fixed, as a program has them.
#[derive(Clone, Copy, Debug)]
pub struct Fixed<'a> {
    /// The number of partitions.
    pub partitions: u16,
    /// The exchange that producers publish to.
    pub exchange: &'a str,
    /// The version of exchanges and queues.
    pub topology: i32,
    /// Where messages say whose order they belong to.
    pub entity_from: &'a str,
    /// Where they say which number they have there: fixed while a worker runs.
    pub sequence_from: &'a str,
}

/// The migration that first knows of entities elsewhere than in the routing key.
const ENTITY_FROM: i64 = 10;

/// Records the settings, or compares them with those recorded; gives the version of exchanges and queues as it was when they were
/// first declared.
///
/// # Errors
/// What differs, in words.
pub async fn join(connection: &mut PgConnection, fixed: Fixed<'_>) -> Result<i32, ClusterError> {
    sqlx::query(sql::RECORD_SETTINGS)
        .bind(i32::from(fixed.partitions))
        .bind(fixed.exchange)
        .bind(fixed.topology)
        .bind(fixed.entity_from)
        // An earlier program would take the routing key for the entity.
        .bind(if fixed.entity_from == "routing-key" { 0 } else { ENTITY_FROM })
        .bind(fixed.sequence_from)
        .execute(&mut *connection)
        .await?;
    let recorded: Recorded = sqlx::query_as(sql::READ_SETTINGS).fetch_one(&mut *connection).await?;
    compare(&recorded, &fixed)?;
    if recorded.sequence_from != fixed.sequence_from {
        change_sequence_from(connection, &recorded.sequence_from, fixed.sequence_from).await?;
    }
    sqlx::query(sql::FORGET_COMMITS).execute(&mut *connection).await?;
    sqlx::query(sql::CREATE_PARTITIONS).bind(i32::from(fixed.partitions)).execute(connection).await?;
    Ok(recorded.topology)
}

/// A worker that died counts until its lease is over.
async fn change_sequence_from(connection: &mut PgConnection, recorded: &str, asked: &str) -> Result<(), ClusterError> {
    let changed = sqlx::query(sql::CHANGE_SEQUENCE_FROM).bind(asked).execute(connection).await?;
    if changed.rows_affected() == 0 {
        return Err(ClusterError::SequenceFrom { recorded: recorded.into(), asked: asked.into() });
    }
    tracing::info!("--sequence-from was {recorded}, and is {asked} from now on");
    Ok(())
}

#[derive(sqlx::FromRow)]
struct Recorded {
    partitions: i32,
    exchange: String,
    topology: i32,
    least_schema: i64,
    entity_from: String,
    sequence_from: String,
}

/// What is newer comes first: it is why other settings may differ.
fn compare(recorded: &Recorded, fixed: &Fixed<'_>) -> Result<(), ClusterError> {
    let known = super::migrations().iter().map(|migration| migration.version).max().unwrap_or_default();
    if recorded.least_schema > known {
        return Err(ClusterError::Schema { needed: recorded.least_schema, known });
    }
    if recorded.topology > fixed.topology {
        return Err(ClusterError::Topology { recorded: recorded.topology, known: fixed.topology });
    }
    if recorded.partitions != i32::from(fixed.partitions) {
        return Err(ClusterError::Partitions { recorded: recorded.partitions, asked: fixed.partitions.into() });
    }
    if recorded.exchange != fixed.exchange {
        return Err(ClusterError::Exchange { recorded: recorded.exchange.clone(), asked: fixed.exchange.into() });
    }
    if recorded.entity_from != fixed.entity_from {
        let (recorded, asked) = (recorded.entity_from.clone(), fixed.entity_from.into());
        return Err(ClusterError::EntityFrom { recorded, asked });
    }
    Ok(())
}
