//! Messages come in, are read by the contract, recorded, and acknowledged after the commit. Tokens of the due queues come
//! in over the same connection.

pub mod acks;
pub mod consumer;
pub mod deliveries;
pub mod reader;
pub mod session;

use std::sync::Arc;
use std::time::Duration;

use lapin::Connection;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::broker::gatekeeper::ahead::Ahead;
use crate::broker::publisher::Publisher;
use crate::broker::topology::{Names, TopologyError};
use crate::broker::{Heartbeat, Nodes};
use crate::domain::contract::Terms;
use crate::domain::destination::Destinations;
use crate::domain::guard::Guard;
use crate::handoff::{Arrived, Notice};
use crate::health::Health;
use crate::lease::Lease;
use crate::reconnect::Delays;
use crate::telemetry::trace;

/// How long a connection may take to be opened, with everything declared: 1,000 partitions take about ten seconds.
const OPEN_WITHIN: Duration = Duration::from_mins(1);

/// What is known of receivers.
#[derive(Clone)]
pub struct Receivers {
    /// What holds for them now.
    pub destinations: watch::Receiver<Arc<Destinations>>,
    /// Which of them are not called.
    pub guard: Arc<Guard>,
}

/// What intake needs.
pub struct Intake {
    /// The broker.
    pub nodes: Nodes,
    /// The names of exchanges and queues.
    pub names: Names,
    /// The number of partitions, for declaring them.
    pub partitions: u16,
    /// The settings of the contract.
    pub terms: Terms,
    /// What is known of receivers.
    pub receivers: Receivers,
    /// To the engine: events.
    pub arrived: mpsc::Sender<Arrived>,
    /// To the engine: tokens.
    pub notices: mpsc::Sender<Notice>,
    /// For messages that break the contract.
    pub publisher: Publisher,
    /// The leases that are ours.
    pub owned: watch::Receiver<Vec<Arc<Lease>>>,
    /// Where the messages come from, for traces.
    pub origin: trace::Broker,
    /// Told whether the broker is reached.
    pub health: Arc<Health>,
    /// Signs of life on the connection.
    pub heartbeat: Heartbeat,
    /// Told when the broker was reached for the first time, with everything declared.
    pub reached: CancellationToken,
}

impl Intake {
    /// Consumes until `stop`, and comes back by itself when the broker does.
    ///
    /// # Errors
    /// What is wrong with the broker, if only a person can mend it.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), TopologyError> {
        let mut delays = Delays::default();
        let mut declared = false;
        let mut told = false;
        while !stop.is_cancelled() {
            let ended = match stop.run_until_cancelled(self.open_within(&mut declared)).await {
                None => break,
                Some(Ok((connection, ahead))) => {
                    delays.reset();
                    self.reached.cancel();
                    if let Some(lasted) = self.health.consuming.end() {
                        tracing::debug!(seconds = lasted.as_secs_f64(), "the broker is reached");
                    }
                    told = false;
                    let ended = session::run(&connection, &mut self, &ahead, &stop).await;
                    if let Err(why) = &ended {
                        self.health.consuming.begin(format!("consuming broke off: {why}"));
                    }
                    crate::broker::close(&connection, "stopped").await;
                    // A queue may be gone: declare everything again, for it may be the whole broker that is new.
                    declared = false;
                    ended
                }
                Some(Err(error)) if error.is_permanent() => return Err(error),
                Some(Err(error)) => Err(error.to_string()),
            };
            if let Err(why) = ended {
                self.health.consuming.begin(why.clone());
                if !told {
                    tracing::warn!("nothing is consumed: {why}; it is tried again");
                }
                told = true;
                let _ = stop.run_until_cancelled(delays.wait()).await;
            }
        }
        Ok(())
    }

    async fn open_within(&mut self, declared: &mut bool) -> Result<(Connection, Arc<Ahead>), TopologyError> {
        let late = || TopologyError::Connection(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
        tokio::time::timeout(OPEN_WITHIN, self.open(declared)).await.unwrap_or_else(|_| Err(late()))
    }

    async fn open(&mut self, declared: &mut bool) -> Result<(Connection, Arc<Ahead>), TopologyError> {
        let ahead = Arc::default();
        let opened = self.nodes.connect_counting("onceward consumer", self.heartbeat, &ahead).await;
        let connection = opened.map_err(TopologyError::Connection)?;
        if !*declared {
            crate::broker::topology::declare(&connection, &self.names, self.partitions).await?;
            *declared = true;
        }
        Ok((connection, ahead))
    }
}
