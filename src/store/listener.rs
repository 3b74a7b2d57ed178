//! A connection that hears what is told on a channel.

use std::time::Duration;

use sqlx::postgres::{PgListener, PgPool};

use super::server;

/// After so long without a word, it is seen to that there still is a server.
const QUIET: Duration = Duration::from_secs(30);
/// How long that may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The connection.
pub struct Listener {
    listener: PgListener,
    pool: PgPool,
}

impl Listener {
    /// Hears what is told from now on.
    ///
    /// # Errors
    /// sqlx's.
    pub async fn connect(pool: &PgPool, channel: &str) -> Result<Self, sqlx::Error> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(channel).await?;
        Ok(Self { listener, pool: pool.clone() })
    }

    /// Waits until something is told. A server that is gone without a word says as little as one that has nothing to tell: it is
    /// asked now and then.
    ///
    /// # Errors
    /// sqlx's, if there is no server any more, or another one has taken over.
    pub async fn heard(&mut self) -> Result<(), sqlx::Error> {
        loop {
            if let Ok(heard) = tokio::time::timeout(QUIET, self.listener.recv()).await {
                return heard.map(drop);
            }
            let late = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
            let same = tokio::time::timeout(ANSWER_WITHIN, self.leads_where_others_do()).await.map_err(late)??;
            if !same {
                return Err(sqlx::Error::Io(std::io::ErrorKind::NotConnected.into()));
            }
        }
    }

    async fn leads_where_others_do(&mut self) -> Result<bool, sqlx::Error> {
        let ours = server::of(&mut self.listener).await?;
        Ok(ours == server::of(&mut *self.pool.acquire().await?).await?)
    }
}
