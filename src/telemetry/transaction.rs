//! Transactions with the database: each has a name, and is measured by it.

use std::time::Duration;

use super::{metrics, trace};
use crate::clock;

/// Does a transaction, or a statement that is one by itself, and measures how long it takes, with the wait for a connection
/// if `work` has one. `name` is one of a few.
///
/// # Errors
/// Those of `work`.
pub async fn transaction<T, E>(name: &'static str, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let mut measured = Measured { name, began: clock::now(), outcome: "cancelled" };
    let done = work.await;
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
