//! Gates and pauses, as the store keeps them.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use super::Store;
use crate::domain::event::{Entity, Host, Partition};
use crate::domain::gate::{Change, Gate, GatePolicy, GateState};
use crate::engine::hosts::gates::{GateChange, Standing};

/// What is kept of gates and pauses.
#[derive(Clone, Debug, Default)]
pub struct Gates {
    /// By their hosts, each with its version, and who probes.
    pub by_host: BTreeMap<Host, (Gate, i64, Option<Uuid>)>,
    /// Hosts that are paused, and until when.
    pub paused_hosts: BTreeMap<Host, Duration>,
    /// Entities that are paused, and until when.
    pub paused_entities: BTreeMap<Entity, Duration>,
    version: i64,
}

impl Store {
    /// Records changes of gates.
    pub(crate) fn change_gates(&mut self, member: Uuid, changes: &[GateChange], now: Duration) {
        for GateChange { host, change, policy } in changes {
            let before = self.gates.by_host.get(host).map(|(gate, ..)| gate);
            let Some(gate) = Gate::after(before, change, policy, 0, now) else { continue };
            self.gates.version += 1;
            let prober = (gate.state == GateState::Probing).then_some(member);
            self.gates.by_host.insert(host.clone(), (gate, self.gates.version, prober));
        }
    }

    /// Claims hosts that may be probed, for which events of these partitions wait.
    pub(crate) fn claim_gates(
        &mut self,
        (member, timeout, policy): (Uuid, Duration, GatePolicy),
        partitions: &[Partition],
        now: Duration,
    ) {
        let waits = |host: &Host| {
            let mut parked = self.open.values().filter(|open| open.parked && open.host == *host);
            parked.any(|open| partitions.contains(&open.partition) && !self.is_paused(&open.entity, now))
        };
        let hosts = self.gates.by_host.keys();
        let is_paused = |host: &Host| self.gates.paused_hosts.get(host).is_some_and(|until| *until > now);
        let claimable = hosts.filter(|host| waits(host) && !is_paused(host));
        let change = Change::Claim(timeout);
        let claims: Vec<GateChange> =
            claimable.map(|host| GateChange { host: host.clone(), change: change.clone(), policy }).collect();
        self.change_gates(member, &claims, now);
    }

    fn is_paused(&self, entity: &Entity, now: Duration) -> bool {
        self.gates.paused_entities.get(entity).is_some_and(|until| *until > now)
    }

    /// What a worker is told of gates and pauses.
    pub(crate) fn standing(&self, member: Uuid, now: Duration) -> Standing {
        let mut standing = Standing::default();
        for (host, (gate, version, prober)) in &self.gates.by_host {
            match gate.state {
                GateState::Open if gate.next <= now => {}
                GateState::Open => drop(standing.opening.insert(host.clone())),
                GateState::Probing if *prober == Some(member) => {
                    standing.ours.insert(host.clone(), *version);
                }
                GateState::Shut | GateState::Probing => drop(standing.shut.insert(host.clone())),
            }
        }
        let holds = |until: &Duration| *until > now;
        let hosts = self.gates.paused_hosts.iter().filter(|(_, until)| holds(until));
        standing.paused.hosts = hosts.map(|(host, _)| host.clone()).collect();
        let entities = self.gates.paused_entities.iter().filter(|(_, until)| holds(until));
        standing.paused.entities = entities.map(|(entity, _)| entity.clone()).collect();
        standing
    }
}
