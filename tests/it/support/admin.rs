//! A worker's admin port, as whoever watches it asks.

use std::collections::BTreeMap;

use super::{SOON, Worker, asking};

/// A worker's admin port.
pub struct Admin(String);

impl Admin {
    pub async fn of(worker: &Worker) -> Self {
        worker.wait_for_line(SOON, "metrics and health are at ").await;
        let log = worker.log();
        let (_, rest) = log.split_once("metrics and health are at http://").expect("just waited for");
        // In JSON more follows on the same line.
        Self(format!("http://{}", rest.split('/').next().expect("an address")))
    }

    /// Where it is, as `host:port`.
    pub fn address(&self) -> &str {
        self.0.trim_start_matches("http://")
    }

    pub async fn get(&self, path: &str) -> (u16, String) {
        let response = reqwest::get(format!("{}{path}", self.0)).await.expect("the admin port answers");
        (response.status().as_u16(), response.text().await.expect("text"))
    }

    /// Samples by name and labels, as they are written.
    pub async fn metrics(&self) -> BTreeMap<String, f64> {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').expect("a sample");
                (name.to_owned(), value.parse().expect("a number"))
            })
            .collect()
    }

    /// Waits until the worker says that it is ready, or what is missing.
    pub async fn wait_for_ready(&self, ready: bool, says: &str) {
        let answers = async || {
            let (status, text) = self.get("/readyz").await;
            ((status == 200) == ready && text.contains(says)).then_some(())
        };
        asking(SOON, format_args!("readiness {ready}, {says:?}"), answers).await;
    }
}
