//! Gates and pauses between the engine and the store: what this worker's engine says of hosts is recorded for all workers, and
//! what they have recorded is told to the engine. Hosts that may be probed are claimed here, by whoever has events for them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock;
use crate::domain::destination::Destinations;
use crate::domain::event::{Entity, Host};
use crate::domain::gate::{Change, Gate, GateState};
use crate::engine::hosts::gates::GateChange;
use crate::handoff::GatesTold;
use crate::lease::Lease;
use crate::reconnect::Delays;
use crate::store::gates::{self, Seen, ShownGate, ShownPause};
use crate::telemetry::{metrics, transaction};

/// How often gates are looked at, also when nobody says that anything has changed.
const LOOK: Duration = Duration::from_secs(1);
/// Changes that one transaction records.
const CHANGES: usize = 256;
/// Hosts that one look claims to probe, at most.
const CLAIMS: i64 = 256;
/// How often what is over is forgotten, and the gauges get another picture.
const COUNT: Duration = Duration::from_secs(15);
/// Hosts of which the gauges say what waits.
const COUNTED: usize = 100;
/// Of one partition, so many entities are counted that wait for a host.
const ENTITIES: i64 = 1_000;

/// Keeps the engine and the store together.
pub struct GateSync {
    /// Connections.
    pub pool: PgPool,
    /// Who we are.
    pub member: Uuid,
    /// What holds for receivers.
    pub destinations: watch::Receiver<Arc<Destinations>>,
    /// The leases that are ours.
    pub owned: watch::Receiver<Vec<Arc<Lease>>>,
    /// What the engine says of hosts.
    pub changes: mpsc::Receiver<GateChange>,
    /// To the engine.
    pub told: mpsc::Sender<GatesTold>,
}

/// What was read last.
#[derive(Default)]
struct Picture {
    seen: Option<Seen>,
    gates: Vec<ShownGate>,
    pauses: Vec<ShownPause>,
    bear: HashMap<Host, (usize, i64)>,
    /// When it was read.
    at: Duration,
    /// When gauges and what is over were looked after last.
    counted: Option<Duration>,
}

impl Picture {
    /// The time until the first gate may be probed that may not be yet.
    fn until_next(&self, now: Duration) -> Option<Duration> {
        let age = now.saturating_sub(self.at).as_secs_f64();
        let left = self.gates.iter().filter(|gate| gate.state != GateState::Open.name());
        let left = left.map(|gate| gate.until_seconds - age).filter(|left| *left > 0.0).reduce(f64::min)?;
        Duration::try_from_secs_f64(left).ok()
    }

    fn has_due(&self, now: Duration) -> bool {
        let age = now.saturating_sub(self.at).as_secs_f64();
        self.gates.iter().any(|gate| gate.state != GateState::Open.name() && gate.until_seconds <= age)
    }

    fn paused_entities(&self) -> Vec<Entity> {
        let entities = self.pauses.iter().filter(|pause| pause.scope == "entity");
        entities.map(|pause| pause.name.as_str().into()).collect()
    }
}

impl GateSync {
    /// Runs until the engine has nothing more to say. After `stop`, nothing more is claimed.
    pub async fn run(mut self, stop: CancellationToken) {
        let told = tokio::sync::Notify::new();
        let pool = self.pool.clone();
        let listening = async {
            let mut delays = Delays::default();
            loop {
                // Unheard, changes are found by looking.
                if let Ok(mut listener) = gates::listen(&pool).await {
                    delays.reset();
                    while listener.heard().await.is_ok() {
                        told.notify_one();
                    }
                }
                delays.wait().await;
            }
        };
        let keeping = async {
            let mut look = tokio::time::interval(LOOK);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut picture, mut changes) = (Picture::default(), Vec::new());
            loop {
                let next = picture.until_next(clock::now()).unwrap_or(LOOK).min(LOOK);
                tokio::select! {
                    received = self.changes.recv_many(&mut changes, CHANGES) => if received == 0 { return },
                    () = told.notified() => {}
                    _ = look.tick() => {}
                    () = tokio::time::sleep(next) => {}
                }
                let done: Vec<Host> = changes.iter().map(|change: &GateChange| change.host.clone()).collect();
                let changes = std::mem::take(&mut changes);
                if let Err(error) = self.turn(&mut picture, (&changes, &done), stop.is_cancelled()).await {
                    tracing::debug!(%error, "the gates of hosts could not be looked after; it is tried again");
                    // What could not be recorded comes again if it still holds.
                    picture.seen = None;
                    self.tell(&picture, done).await;
                }
            }
        };
        tokio::select! {
            () = keeping => {}
            () = listening => {}
        }
    }

    async fn turn(
        &self,
        picture: &mut Picture,
        (changes, done): (&[GateChange], &[Host]),
        stopping: bool,
    ) -> Result<(), sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        self.record(&mut connection, changes).await?;
        if !stopping && picture.has_due(clock::now()) {
            self.claim(&mut connection, picture).await?;
        }
        let seen = transaction("gates_seen", gates::seen(&mut connection)).await?;
        if picture.seen != Some(seen) || !done.is_empty() {
            picture.at = clock::now();
            picture.gates = transaction("gates", gates::read(&mut connection, self.member)).await?;
            let pauses = transaction("pauses", gates::pauses(&mut connection)).await?;
            picture.bear = transaction("limits", gates::bearing(&mut connection)).await?;
            tell_pauses(&picture.pauses, &pauses);
            (picture.pauses, picture.seen) = (pauses, Some(seen));
            self.tell(picture, done.to_vec()).await;
        }
        let now = clock::now();
        if picture.counted.is_none_or(|counted| counted + COUNT <= now) {
            picture.counted = Some(now);
            self.count(&mut connection, picture).await?;
        }
        Ok(())
    }

    /// Records what the engine says; of a host, the last that it has said in one go would hide what came before.
    async fn record(&self, connection: &mut PgConnection, changes: &[GateChange]) -> Result<(), sqlx::Error> {
        let mut rest: Vec<&GateChange> = changes.iter().collect();
        while !rest.is_empty() {
            let mut hosts = HashSet::new();
            let (now, later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|change| hosts.insert(&change.host));
            let now: Vec<GateChange> = now.into_iter().cloned().collect();
            let changed = transaction("gate_changes", gates::change(connection, self.member, &now)).await?;
            for (host, gate) in &changed {
                let change = now.iter().find(|change| change.host == *host).map(|change| &change.change);
                tell_gate(host, gate, change);
            }
            rest = later;
        }
        Ok(())
    }

    /// Claims hosts that may be probed, and for which events of ours wait.
    async fn claim(&self, connection: &mut PgConnection, picture: &Picture) -> Result<(), sqlx::Error> {
        let partitions = self.partitions();
        if partitions.is_empty() {
            return Ok(());
        }
        let paused = picture.paused_entities();
        let claimable = gates::claimable(connection, &partitions, &paused, CLAIMS);
        let hosts = transaction("gates_claimable", claimable).await?;
        let destinations = self.destinations.borrow().clone();
        let claim = |host: Host| {
            let destination = destinations.of(&host);
            GateChange { change: Change::Claim(destination.timeout), policy: destination.gate, host }
        };
        let claims: Vec<GateChange> = hosts.into_iter().map(claim).collect();
        if !claims.is_empty() {
            transaction("gate_claims", gates::change(connection, self.member, &claims)).await?;
        }
        Ok(())
    }

    fn partitions(&self) -> Vec<i32> {
        let owned = self.owned.borrow();
        owned.iter().filter(|lease| lease.hold().is_some()).map(|lease| lease.partition.0).collect()
    }

    async fn tell(&self, picture: &Picture, done: Vec<Host>) {
        let mut standing = gates::standing(&picture.gates, &picture.pauses);
        standing.bear.clone_from(&picture.bear);
        let told = Arc::new(standing);
        // Without an engine, nothing is sent.
        let _ = self.told.send(GatesTold { told, done }).await;
    }

    /// The gauges' picture; what is over is forgotten.
    async fn count(&self, connection: &mut PgConnection, picture: &Picture) -> Result<(), sqlx::Error> {
        transaction("forget_gates", gates::forget(connection)).await?;
        let shut: Vec<&ShownGate> = picture.gates.iter().filter(|gate| gate.state != GateState::Open.name()).collect();
        let paused = picture.pauses.iter().filter(|pause| pause.scope == "host").map(|pause| pause.name.as_str());
        let hosts: HashSet<&str> = shut.iter().map(|gate| gate.host.as_str()).chain(paused).collect();
        let hosts: Vec<&str> = hosts.into_iter().take(COUNTED).collect();
        let partitions = self.partitions();
        let waiting = gates::waiting(connection, &hosts, &partitions, ENTITIES);
        let waiting = if hosts.is_empty() { Vec::new() } else { transaction("gates_waiting", waiting).await? };
        metrics::gates(
            shut.iter().map(|gate| (Host::from(gate.host.as_str()), gate.since_seconds)),
            picture.pauses.len(),
            waiting.into_iter().map(|row| (Host::from(row.host), row.entities, row.oldest_seconds)),
        );
        Ok(())
    }
}

/// By the worker whose attempts have said so.
fn tell_gate(host: &Host, gate: &Gate, change: Option<&Change>) {
    let (host, reason, probes) = (host.as_str(), gate.reason.as_str(), gate.probes);
    match (gate.state, change) {
        (GateState::Shut, Some(Change::Shut(..))) => tracing::warn!(
            host,
            reason,
            "the host is down: its gate is shut, and its events wait without spending attempts"
        ),
        (GateState::Shut, Some(Change::Failed(..))) => {
            tracing::info!(host, reason, probes, "the host is still down: its gate stays shut");
        }
        (GateState::Shut | GateState::Probing, _) => {}
        (GateState::Open, _) => tracing::info!(host, probes, "the host has answered: its gate opens"),
    }
}

/// What operators, or a receiver that is gone, have paused or resumed.
fn tell_pauses(before: &[ShownPause], now: &[ShownPause]) {
    let is_in = |pauses: &[ShownPause], one: &ShownPause| {
        pauses.iter().any(|pause| (&pause.scope, &pause.name) == (&one.scope, &one.name))
    };
    for ShownPause { scope, name, why, by, .. } in now.iter().filter(|pause| !is_in(before, pause)) {
        tracing::warn!(scope, name, why, by, "paused: its events wait, in order, until `onceward resume`");
    }
    for ShownPause { scope, name, .. } in before.iter().filter(|pause| !is_in(now, pause)) {
        tracing::info!(scope, name, "resumed");
    }
}
