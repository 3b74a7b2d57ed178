//! The engine's task: it receives what has happened, lets the engine decide, and carries out what is to be done.

mod carry_out;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub use self::carry_out::Loads;
use self::carry_out::Tickets;
use crate::clock;
use crate::domain::destination::Destinations;
use crate::engine::command::Ticket;
use crate::engine::hosts::gates::GateChange;
use crate::engine::input::{Cap, Input, Wake};
use crate::engine::{self, Rules};
use crate::handoff::{Arrived, Attempt, Command, DeadLettered, Ended, GatePorts, GatesTold, Notice, Written};
use crate::health::Health;
use crate::lease::Lease;

/// The engine of a worker.
type Engine = engine::Engine<Arc<Lease>>;

/// The channels of the engine.
pub struct Ports {
    /// Messages that keep the contract.
    pub arrived: mpsc::Receiver<Arrived>,
    /// What was written, in the order of the commits.
    pub written: mpsc::Receiver<Vec<Written>>,
    /// The leases that are ours.
    pub owned: watch::Receiver<Vec<Arc<Lease>>>,
    /// Our part of the cap on hosts.
    pub cap: mpsc::Receiver<(Cap, oneshot::Sender<usize>)>,
    /// What holds for receivers.
    pub destinations: watch::Receiver<Arc<Destinations>>,
    /// Gates and pauses, as the store has them.
    pub gates: GatePorts,
    /// What else there is to look at.
    pub notices: mpsc::Receiver<Notice>,
    /// What came of attempts.
    pub ended: mpsc::Receiver<Ended>,
    /// To the writer.
    pub commands: mpsc::Sender<Command>,
    /// To deliver.
    pub attempts: mpsc::Sender<Attempt>,
    /// To the broker, after a commit: retries.
    pub wakes: mpsc::Sender<Wake>,
    /// To the broker, after a commit: FAILED events.
    pub dead_letters: mpsc::Sender<DeadLettered>,
    /// To the gauges.
    pub loads: Loads,
}

/// Ends of attempts that are taken at once.
const ENDS: usize = 256;
/// With so many commands that wait for the writer, arrivals and notices wait, too: nothing else bounds what comes of them.
const COMMANDS_FULL: usize = 4_096;
/// How soon newcomers that wait for their host look again, if nothing happens.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How often the gauges get another picture.
const SHOW_LOADS: Duration = Duration::from_millis(250);

struct Dispatch {
    engine: Engine,
    /// On their way to the writer. Bounded by what they are about: lanes, attempts and hosts have one at most; arrivals and
    /// notices wait while there are many.
    commands: VecDeque<Command>,
    to_writer: mpsc::Sender<Command>,
    /// None once nothing more is sent: without it, deliver ends with the last attempt.
    to_deliver: Option<mpsc::Sender<Attempt>>,
    wakes: mpsc::Sender<Wake>,
    dead_letters: mpsc::Sender<DeadLettered>,
    gate_changes: mpsc::Sender<GateChange>,
    /// On their way there. Bounded by the hosts that the engine knows: a few for each at most.
    unsaid: VecDeque<GateChange>,
    tickets: Tickets,
    loads: Loads,
    look_again: bool,
    /// Destinations whose limit is not kept, as was told.
    crowded: BTreeSet<String>,
}

/// Runs until `stop`, and then until every attempt that was recorded is settled. `health` is told that it goes round.
pub async fn run(ports: Ports, rules: Rules, health: Arc<Health>, stop: CancellationToken) {
    let Ports {
        mut arrived,
        mut written,
        mut owned,
        mut cap,
        mut destinations,
        gates: GatePorts { told: mut gates, said: gate_changes },
        mut notices,
        mut ended,
        commands,
        attempts,
        wakes,
        dead_letters,
        loads,
    } = ports;
    let announcements = (wakes, dead_letters, gate_changes);
    let mut dispatch = Dispatch::new(rules, (commands, attempts), announcements, loads);
    let to_writer = dispatch.to_writer.clone();
    let mut show = tokio::time::interval(SHOW_LOADS);
    let mut look = tokio::time::interval(LOOK_AGAIN);
    show.set_missed_tick_behavior(MissedTickBehavior::Delay);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ends = Vec::new();
    loop {
        health.goes_round();
        dispatch.send_commands();
        let has_room = dispatch.commands.len() < COMMANDS_FULL;
        let input = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            permit = to_writer.reserve(), if !dispatch.commands.is_empty() => {
                let (Ok(permit), Some(command)) = (permit, dispatch.commands.pop_front()) else { break };
                permit.send(command);
                continue;
            }
            Some(results) = written.recv() => Input::Written(results),
            1.. = ended.recv_many(&mut ends, ENDS) => Input::Ended(std::mem::take(&mut ends)),
            Ok(()) = owned.changed() => Input::Leases(owned.borrow_and_update().clone()),
            Some((cap, holds)) = cap.recv() => {
                dispatch.set_cap(cap, holds).await;
                continue;
            }
            Some(GatesTold { told, done }) = gates.recv() => Input::Gates { told, done },
            Ok(()) = destinations.changed() => {
                dispatch.follow(&mut destinations).await;
                continue;
            }
            _ = look.tick(), if dispatch.look_again => Input::Look,
            _ = show.tick() => {
                dispatch.loads.show(&dispatch.engine);
                continue;
            }
            Some(notice) = notices.recv(), if has_room => dispatch.tickets.noticed(notice),
            // Last: what is on its way goes first.
            Some(arrived) = arrived.recv(), if has_room => dispatch.tickets.arrived(arrived),
        };
        dispatch.handle(input).await;
    }
    drop((arrived, notices, gates, to_writer));
    dispatch.drain(written, ended, cap).await;
}

impl Dispatch {
    fn new(
        rules: Rules,
        (commands, attempts): (mpsc::Sender<Command>, mpsc::Sender<Attempt>),
        (wakes, dead_letters, gate_changes): (mpsc::Sender<Wake>, mpsc::Sender<DeadLettered>, mpsc::Sender<GateChange>),
        loads: Loads,
    ) -> Self {
        Self {
            engine: Engine::new(rules),
            commands: VecDeque::new(),
            to_writer: commands,
            to_deliver: Some(attempts),
            wakes,
            dead_letters,
            gate_changes,
            unsaid: VecDeque::new(),
            tickets: Tickets::default(),
            loads,
            look_again: false,
            crowded: BTreeSet::new(),
        }
    }

    async fn handle(&mut self, input: Input<Arc<Lease>>) {
        let effects = self.engine.handle(input, clock::now());
        self.carry_out(effects).await;
    }

    async fn set_cap(&mut self, cap: Cap, holds: oneshot::Sender<usize>) {
        self.handle(Input::Cap(cap)).await;
        let _ = holds.send(self.engine.most_begun());
        self.tell_crowded();
    }

    async fn follow(&mut self, destinations: &mut watch::Receiver<Arc<Destinations>>) {
        let changed = destinations.borrow_and_update().clone();
        self.handle(Input::Destinations(changed)).await;
        self.tell_crowded();
    }

    /// Tells of limits that are not kept, once for as long as they are not.
    fn tell_crowded(&mut self) {
        let crowded: BTreeSet<String> = self.engine.crowded().map(str::to_owned).collect();
        for entry in crowded.difference(&self.crowded) {
            tracing::warn!(
                destination = entry,
                "`connections` is less than one for each worker: each has one request at a time, and together they have more"
            );
        }
        self.crowded = crowded;
    }

    /// Sends what there is room for of what is to be recorded of gates; the rest goes with the next input.
    fn say_gates(&mut self) {
        while !self.unsaid.is_empty()
            && let Ok(permit) = self.gate_changes.try_reserve()
            && let Some(change) = self.unsaid.pop_front()
        {
            permit.send(change);
        }
    }

    /// Sends the commands that the writer has room for.
    fn send_commands(&mut self) {
        while !self.commands.is_empty()
            && let Ok(permit) = self.to_writer.try_reserve()
            && let Some(command) = self.commands.pop_front()
        {
            permit.send(command);
        }
    }

    /// Runs until the last attempt that was recorded is settled.
    async fn drain(
        mut self,
        mut written: mpsc::Receiver<Vec<Written>>,
        mut ended: mpsc::Receiver<Ended>,
        mut cap: mpsc::Receiver<(Cap, oneshot::Sender<usize>)>,
    ) {
        let unsent = std::mem::take(&mut self.commands).into();
        self.handle(Input::Stop { unsent }).await;
        let (to_writer, mut ending) = (self.to_writer.clone(), true);
        while ending || !self.commands.is_empty() {
            if self.engine.unsent() == 0 {
                self.to_deliver = None;
            }
            let input = tokio::select! {
                biased;
                permit = to_writer.reserve(), if !self.commands.is_empty() => {
                    let (Ok(permit), Some(command)) = (permit, self.commands.pop_front()) else { return };
                    permit.send(command);
                    continue;
                }
                results = written.recv() => {
                    let Some(results) = results else { return };
                    Input::Written(results)
                }
                end = ended.recv(), if ending => {
                    let Some(end) = end else {
                        ending = false;
                        continue;
                    };
                    Input::Ended(vec![end])
                }
                Some((cap, holds)) = cap.recv() => {
                    self.set_cap(cap, holds).await;
                    continue;
                }
            };
            self.handle(input).await;
        }
        // Whoever sets it now is told that nothing is begun.
        drop(cap);
        let Self { mut engine, to_writer: last, wakes, dead_letters, mut tickets, .. } = self;
        drop((to_writer, last));
        while let Some(results) = written.recv().await {
            let effects = engine.handle(Input::Written(results), clock::now());
            carry_out::announce(effects.wakes, effects.dead_letters, &wakes, &dead_letters);
            tickets.answer(effects.admitted, effects.operated, effects.refused);
        }
    }
}

/// Numbers tickets.
#[derive(Default)]
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> Ticket {
        self.0 += 1;
        Ticket(self.0)
    }
}

/// Who waits for what.
type Waiting<T> = HashMap<Ticket, T>;
