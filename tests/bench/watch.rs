//! A worker that is watched: a collector that takes all traces and metrics, and a scrape once a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::Client;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Fallible;
use super::processes::Receiver;
use super::receiver::ReceiverArgs;

const SCRAPE_EVERY: Duration = Duration::from_secs(1);

/// Ends when it is dropped.
pub struct Watch {
    collector: Receiver,
    admin_port: u16,
    scrapes: Arc<AtomicU64>,
    _scraper: JoinSet<()>,
}

impl Watch {
    pub async fn start() -> Fallible<Self> {
        let args = ReceiverArgs { swallow: true, ..ReceiverArgs::expecting(0) };
        let collector = Receiver::start(&args).await?;
        let admin_port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
        let client = Client::builder().no_proxy().build()?;
        let (scrapes, mut scraper) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
        let scraped = Arc::clone(&scrapes);
        scraper.spawn(async move {
            let mut ticks = tokio::time::interval(SCRAPE_EVERY);
            loop {
                ticks.tick().await;
                // Before the worker listens, nobody answers.
                if let Ok(answer) = client.get(format!("http://127.0.0.1:{admin_port}/metrics")).send().await {
                    scraped.fetch_add(u64::from(answer.bytes().await.is_ok()), Ordering::Relaxed);
                }
            }
        });
        Ok(Self { collector, admin_port, scrapes, _scraper: scraper })
    }

    /// A worker that nobody has watched after all would be measured for nothing.
    pub async fn end(mut self) -> Fallible<()> {
        let (collected, scrapes) = (self.collector.report().await?.requests, self.scrapes.load(Ordering::Relaxed));
        if collected == 0 || scrapes == 0 {
            return Err(format!("the collector got {collected} requests, and {scrapes} scrapes were answered").into());
        }
        Ok(())
    }

    /// What the worker is started with.
    pub fn settings(&self) -> Vec<(String, String)> {
        let settings = [
            ("ONCEWARD_ADMIN_LISTEN", format!("127.0.0.1:{}", self.admin_port)),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", self.collector.port)),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf".into()),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio".into()),
            ("OTEL_TRACES_SAMPLER_ARG", "0.01".into()),
        ];
        settings.map(|(name, value)| (name.to_owned(), value)).into()
    }
}
