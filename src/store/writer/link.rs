//! The writer's connection, and whether a transaction is open on it.

use std::time::Duration;

use sqlx::{Executor as _, PgConnection};

use crate::store::Database;

/// How long an empty transaction is kept open for the next batch.
pub(super) const REST: Duration = Duration::from_millis(100);

/// The connection. Each transaction's end begins the next one, in one round trip: until a statement is made in it, it
/// holds nothing back at the server. After an error it is of no use any more.
pub(super) struct Link {
    pub(super) connection: PgConnection,
    is_open: bool,
}

impl Link {
    pub(super) async fn connect(database: &Database) -> Result<Self, sqlx::Error> {
        let mut connection = database.connect().await?;
        // What servers take otherwise, pglz, costs five to seven times the CPU for bodies beyond 2 kB, also for those that
        // don't compress. Of PostgreSQL 14 and later, almost all are built with LZ4.
        let setting = "select set_config(name, 'lz4', false) from pg_settings \
                       where name = 'default_toast_compression' and 'lz4' = any(enumvals)";
        connection.execute(setting).await?;
        Ok(Self { connection, is_open: false })
    }

    /// Whether a transaction is open.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// The connection, with a transaction open.
    pub(super) async fn transaction(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        if !self.is_open {
            self.end("begin", true).await?;
        }
        Ok(&mut self.connection)
    }

    /// Commits, and begins anew.
    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.end("commit and chain", true).await
    }

    /// Rolls back, and begins anew.
    pub(super) async fn roll_back(&mut self) -> Result<(), sqlx::Error> {
        self.end("rollback and chain", true).await
    }

    /// Ends the empty transaction that is open.
    pub(super) async fn rest(&mut self) -> Result<(), sqlx::Error> {
        self.end("commit", false).await
    }

    async fn end(&mut self, statement: &'static str, is_open: bool) -> Result<(), sqlx::Error> {
        self.connection.execute(statement).await?;
        self.is_open = is_open;
        Ok(())
    }
}
