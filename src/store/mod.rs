//! Postgres: the truth. Queries are free functions over a connection, by what they are about; [`writer`] is the one
//! task that changes events, in group commits.

pub mod admit;
pub mod census;
pub mod cluster;
pub mod lease;
pub mod line;
pub mod members;
pub mod operator;
pub mod outbox;
pub mod progress;
pub mod retention;
pub mod status;
pub mod stray;
pub mod writer;

use std::str::FromStr as _;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgConnection};

use crate::config::SecretUrl;

/// Reads beside the writer and the leases: sweeps, dead letters.
const POOL_SIZE: u32 = 4;
/// How long a read waits for a connection.
const ACQUIRE_WITHIN: Duration = Duration::from_secs(5);

/// A connection that was cut leaves its transaction to the server, which has to give it up: it holds locks.
const ABANDONED_AFTER: Duration = Duration::from_secs(10);

/// Where the database is.
#[derive(Clone, Debug)]
pub struct Database {
    options: PgConnectOptions,
}

impl Database {
    /// Reads the URL.
    ///
    /// # Errors
    /// sqlx's, for a URL that it can't read.
    pub fn new(url: &SecretUrl, name: &str) -> Result<Self, sqlx::Error> {
        let options = PgConnectOptions::from_str(url.reveal())?.application_name(name).disable_statement_logging();
        Ok(Self { options }.give_up_within(ABANDONED_AFTER))
    }

    /// For a worker with leases of this length: its abandoned transactions end well before them, or the next owner could
    /// not take its partitions.
    #[must_use]
    pub fn give_up_within(self, lease: Duration) -> Self {
        let millis = (lease * 2 / 3).min(ABANDONED_AFTER).as_millis().to_string();
        let names = ["idle_in_transaction_session_timeout", "tcp_user_timeout"];
        Self { options: self.options.options(names.map(|name| (name, &millis))) }
    }

    /// A connection of one's own.
    ///
    /// # Errors
    /// sqlx's, if the server can't be reached.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.options.connect().await
    }

    /// A small pool that connects when it is first used.
    #[must_use]
    pub fn pool(&self) -> PgPool {
        let options = PgPoolOptions::new().max_connections(POOL_SIZE).acquire_timeout(ACQUIRE_WITHIN);
        options.connect_lazy_with(self.options.clone())
    }
}

/// The migrations that this program knows. One that it doesn't know is from a newer program, and no hindrance: a worker
/// that is restarted in the middle of a rolling update has to come up. Migrations only add; one that doesn't says so in
/// the table `cluster`, where [`cluster::join`] looks.
fn migrations() -> Migrator {
    let mut migrator = sqlx::migrate!("src/store/migrations");
    migrator.set_ignore_missing(true);
    migrator
}

/// Brings the schema up to date; safe to run by several workers at once.
///
/// # Errors
/// sqlx's; a migration that was changed after it had been applied is one of them.
pub async fn migrate(connection: &mut PgConnection) -> Result<(), sqlx::migrate::MigrateError> {
    migrations().run(connection).await
}

/// Whether an error says that the server is away, restarting or short of something: worth trying again. Other errors
/// are mistakes of this program.
#[must_use]
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // PostgreSQL, Appendix A: connection, read-only transaction, rollback, resources, operator, system.
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| ["08", "25", "40", "53", "57", "58", "55"].iter().any(|class| code.starts_with(class))),
        _ => false,
    }
}
