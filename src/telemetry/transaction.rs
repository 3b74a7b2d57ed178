//! Transactions with the database: each has a name, and is measured by it.

use std::time::Duration;

use super::{metrics, trace};
use crate::clock;

/// A server that has said nothing for so long is gone: it would have given up itself before.
const WITHIN: Duration = Duration::from_secs(40);

/// Does a transaction, or a statement that is one by itself, and measures how long it takes, with the wait for a connection
/// if `work` has one. `name` is one of a few.
///
/// # Errors
/// Those of `work`; and if it takes too long: a server that is cut off says nothing, and nobody says that it is.
pub async fn transaction<T, E: From<sqlx::Error>>(
    name: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut measured = Measured { name, began: clock::now(), outcome: "cancelled" };
    let late = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    let done = tokio::time::timeout(WITHIN, work).await.unwrap_or_else(|_| Err(late().into()));
    measured.outcome = if done.is_ok() { "ok" } else { "error" };
    done
}

/// Told when it is dropped: whoever waits for a server that does not answer gives up, and that has to be seen, too.
struct Measured {
    name: &'static str,
    began: Duration,
    outcome: &'static str,
}

impl Drop for Measured {
    fn drop(&mut self) {
        let took = clock::now().saturating_sub(self.began);
        metrics::transacted(self.name, self.outcome, took);
        trace::transacted(self.name, self.outcome, took, clock::time_of_day());
    }
}
