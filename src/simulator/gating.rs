//! Gates between workers and the store.

use std::sync::Arc;
use std::time::Duration;

use super::messages::{Process, Reply, Request};
use super::rules::Rule;
use super::worker::Worker;
use super::world::{Happening, TIMEOUT, Timer, World};
use crate::domain::event::{Host, Partition};
use crate::engine::hosts::gates::{GateChange, Standing};
use crate::engine::input::{Attempt, Input};
use crate::lease::Held;

/// How often gates are looked at.
const EVERY: Duration = Duration::from_secs(1);

impl World {
    /// A worker looks at the gates.
    pub(super) fn look_at_gates(&mut self, worker: &mut Worker) {
        self.ask_for_gates(worker);
        self.after_own(worker, EVERY, Timer::Gates);
    }

    /// What the engine says of gates is recorded, one question at a time.
    pub(super) fn ask_for_gates(&mut self, worker: &mut Worker) {
        if worker.gates_asked {
            return;
        }
        worker.gates_asked = true;
        let partitions =
            if worker.draining { Vec::new() } else { worker.hold_all().iter().map(Held::partition).collect() };
        let changes = std::mem::take(&mut worker.gate_changes);
        worker.gates_pending = changes.iter().map(|change| change.host.clone()).collect();
        self.ask(worker, Request::Gates(changes, partitions));
    }

    /// The store records, claims and tells; none if it is not reached.
    pub(super) fn serve_gates(
        &mut self,
        process: Process,
        changes: &[GateChange],
        partitions: &[Partition],
    ) -> Standing {
        self.remember();
        let (id, now) = (Self::id_of(process), self.store_now());
        self.store.change_gates(id, changes, now);
        if self.keeps(Rule::ProbeShutHosts) {
            self.store.claim_gates((id, TIMEOUT, self.scenario.gate()), partitions, now);
        }
        self.store.standing(id, now)
    }

    /// The question came to nothing.
    pub(super) fn lose_gates(&mut self, process: Process) {
        let latency = self.some(5_000, 1_500_000);
        let reply = Timer::Reply(self.generation, Box::new(Reply::Gates(None)));
        self.agenda.enter(self.now + latency, Happening::At(process, reply));
    }

    /// The store has answered.
    pub(super) fn gates_told(&mut self, worker: &mut Worker, told: Option<Standing>) {
        worker.gates_asked = false;
        if let Some(told) = told {
            worker.gates_told = Arc::new(told);
        }
        let done: Vec<Host> = std::mem::take(&mut worker.gates_pending);
        let told = if self.keeps(Rule::HeedGates) { worker.gates_told.clone() } else { Arc::default() };
        self.feed(worker, Input::Gates { told, done });
        if !worker.gate_changes.is_empty() {
            self.ask_for_gates(worker);
        }
    }

    /// **Spared**: what a worker knows to be shut or paused gets nothing from it but a probe.
    pub(super) fn check_gate(&mut self, worker: &Worker, attempt: &Attempt<Held>) {
        let event = &attempt.candidate.event;
        let (told, host) = (&worker.gates_told, &event.host);
        let is_pending =
            worker.gates_pending.contains(host) || worker.gate_changes.iter().any(|change| change.host == *host);
        let is_shut = told.shut.contains(host) && !is_pending;
        let is_paused = told.paused.hosts.contains(host) || told.paused.entities.contains(&event.entity);
        if is_shut || is_paused {
            let id = attempt.candidate.id;
            self.promises.breaks(format!("spared: event {id} is sent to {host}: shut {is_shut}, paused {is_paused}"));
        }
    }
}
