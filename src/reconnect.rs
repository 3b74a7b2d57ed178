//! Delays between tries to reach a server again.
//!
//! The `backoff` crate is not maintained any more (RUSTSEC-2025-0012). It stays behind this small room, which could
//! do without it in an hour; `.deny.toml` says the same where advisories are checked.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// The delays of one server: 100 ms, growing by half each time to 5 s, spread by 50 %, without end.
pub struct Delays(ExponentialBackoff);

impl Default for Delays {
    fn default() -> Self {
        Self(ExponentialBackoff {
            initial_interval: Duration::from_millis(100),
            current_interval: Duration::from_millis(100),
            max_interval: LONGEST,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        })
    }
}

const LONGEST: Duration = Duration::from_secs(5);

impl Delays {
    /// Waits before the next try.
    pub async fn wait(&mut self) {
        let delay = self.0.next_backoff().unwrap_or(LONGEST);
        tokio::time::sleep(delay).await;
    }

    /// The server was reached: begin again with short delays.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}
