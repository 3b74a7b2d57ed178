//! Which server answers. Where another one takes over, connections of before may still lead to the one that it took over from,
//! and what is written there is lost. So a worker writes only to the server that has its leases, and reads from no other.

use std::time::Duration;

use sqlx::{Executor, Postgres, Row as _};
use tokio::sync::{Notify, watch};

/// How long a new connection waits for the leases to be renewed where it leads.
const AGREE_WITHIN: Duration = Duration::from_secs(1);

/// A server, since it was started: no two of them were in the same microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server(i64);

/// The server at the other end.
///
/// # Errors
/// sqlx's.
pub async fn of<'a>(connection: impl Executor<'a, Database = Postgres>) -> Result<Server, sqlx::Error> {
    let asked = sqlx::raw_sql("select (extract(epoch from pg_postmaster_start_time()) * 1000000)::int8");
    asked.fetch_one(connection).await?.try_get(0).map(Server)
}

/// Where a worker's leases are: every connection of the worker knows it.
#[derive(Debug, Default)]
pub struct LeaseServer {
    renewed: watch::Sender<Option<Server>>,
    doubt: Notify,
}

impl LeaseServer {
    /// The leases were renewed there.
    pub fn renewed_on(&self, server: Server) {
        self.renewed.send_if_modified(|renewed| renewed.replace(server) != Some(server));
    }

    /// Whether the leases are there; before the first renewal, they may be anywhere.
    #[must_use]
    pub fn is(&self, server: Server) -> bool {
        self.renewed.borrow().is_none_or(|renewed| renewed == server)
    }

    /// Waits until whoever renews the leases should connect anew: another connection has come to another server.
    pub async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// Has the leases renewed where a new connection has come to, if that is elsewhere.
    pub fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Waits until the leases are on this server.
    ///
    /// # Errors
    /// If they stay elsewhere: the address leads to several servers, or the leases can't be renewed.
    pub async fn agree_on(&self, server: Server) -> Result<(), sqlx::Error> {
        if self.is(server) {
            return Ok(());
        }
        self.doubt();
        let mut renewed = self.renewed.subscribe();
        let agreed = renewed.wait_for(|renewed| *renewed == Some(server));
        match tokio::time::timeout(AGREE_WITHIN, agreed).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(elsewhere()),
        }
    }

    /// Waits until the leases are on another server than this one. None: for ever.
    pub async fn moved_from(&self, server: Option<Server>) -> sqlx::Error {
        let Some(server) = server else { return std::future::pending().await };
        let mut renewed = self.renewed.subscribe();
        let moved = renewed.wait_for(|renewed| renewed.is_some_and(|renewed| renewed != server)).await.is_ok();
        if moved { elsewhere() } else { std::future::pending().await }
    }
}

fn elsewhere() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other("its address has led to another server, and the leases are not on this one"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_leads_elsewhere_waits_for_the_leases_or_is_of_no_use() {
        let leases = LeaseServer::default();
        let (old, new) = (Server(1), Server(2));
        assert!(leases.is(old) && leases.agree_on(new).await.is_ok(), "before the first renewal");
        leases.renewed_on(old);
        assert!(leases.is(old) && !leases.is(new));
        assert!(leases.agree_on(new).await.is_err(), "nobody renews there");
        leases.doubted().await;
        let (agreed, ()) = tokio::join!(leases.agree_on(new), async {
            leases.doubted().await;
            leases.renewed_on(new);
        });
        assert!(agreed.is_ok() && !leases.is(old));
        leases.moved_from(Some(old)).await;
    }
}
