//! The writer's connection, and whether a transaction is open on it.

use std::time::Duration;

use sqlx::{Executor as _, PgConnection};

use crate::clock;
use crate::store::Database;
use crate::store::server::{self, Server};

/// How long an empty transaction is kept open for the next batch.
pub(super) const REST: Duration = Duration::from_millis(100);
/// How long one transaction's end may begin the next. A session that is never outside of a transaction never tells the
/// server what it has changed, and autovacuum would not know that there is anything to do.
const LONGEST_CHAIN: Duration = Duration::from_secs(1);

/// The connection. A commit begins the next transaction in the same round trip; until a statement is made in that, it
/// holds nothing back at the server. After an error the connection is of no use any more.
pub(super) struct Link {
    pub(super) connection: PgConnection,
    /// Since when there has always been a transaction, by the monotonic clock.
    open_since: Option<Duration>,
    /// Where it leads: the server that has the leases, as far as is known.
    pub(super) server: Server,
}

impl Link {
    pub(super) async fn connect(database: &Database) -> Result<Self, sqlx::Error> {
        let mut connection = database.connect().await?;
        // What servers take otherwise, pglz, costs five to seven times the CPU for bodies beyond 2 kB, also for those that
        // don't compress. Of PostgreSQL 14 and later, almost all are built with LZ4.
        let setting = "select set_config(name, 'lz4', false) from pg_settings \
                       where name = 'default_toast_compression' and 'lz4' = any(enumvals)";
        connection.execute(setting).await?;
        let server = server::of(&mut connection).await?;
        database.leases().agree_on(server).await?;
        Ok(Self { connection, open_since: None, server })
    }

    /// Whether a transaction is open.
    pub(super) fn is_open(&self) -> bool {
        self.open_since.is_some()
    }

    /// The connection, with a transaction open.
    pub(super) async fn transaction(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        if self.open_since.is_none() {
            self.connection.execute("begin").await?;
            self.open_since = Some(clock::now());
        }
        Ok(&mut self.connection)
    }

    /// Commits, and most often begins anew.
    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        let is_new = self.open_since.is_some_and(|since| clock::now().saturating_sub(since) < LONGEST_CHAIN);
        if is_new { self.connection.execute("commit and chain").await.map(drop) } else { self.rest().await }
    }

    /// Rolls back.
    pub(super) async fn roll_back(&mut self) -> Result<(), sqlx::Error> {
        self.end("rollback").await
    }

    /// Ends the transaction, and begins none.
    pub(super) async fn rest(&mut self) -> Result<(), sqlx::Error> {
        self.end("commit").await
    }

    async fn end(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        self.connection.execute(statement).await?;
        self.open_since = None;
        Ok(())
    }
}
