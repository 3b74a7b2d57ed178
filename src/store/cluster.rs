//! The settings that are fixed when the topology is first declared.

use sqlx::PgConnection;

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
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Records the settings, or compares them with those recorded.
///
/// # Errors
/// What differs, in words.
pub async fn join(connection: &mut PgConnection, partitions: u16, exchange: &str) -> Result<(), ClusterError> {
    sqlx::query("insert into cluster (partitions, exchange) values ($1, $2) on conflict do nothing")
        .bind(i32::from(partitions))
        .bind(exchange)
        .execute(&mut *connection)
        .await?;
    let (recorded, recorded_exchange): (i32, String) =
        sqlx::query_as("select partitions, exchange from cluster").fetch_one(&mut *connection).await?;
    if recorded != i32::from(partitions) {
        return Err(ClusterError::Partitions { recorded, asked: partitions.into() });
    }
    if recorded_exchange != exchange {
        return Err(ClusterError::Exchange { recorded: recorded_exchange, asked: exchange.into() });
    }
    sqlx::query("delete from writer_commit where at < clock_timestamp() - interval '1 day'")
        .execute(&mut *connection)
        .await?;
    sqlx::query("insert into partition (id) select generate_series(0, $1 - 1) on conflict do nothing")
        .bind(i32::from(partitions))
        .execute(connection)
        .await?;
    Ok(())
}
