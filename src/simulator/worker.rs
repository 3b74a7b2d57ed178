//! A worker: the engine and the membership as they are, and what its shells know.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::agenda::Clock;
use super::broker::Message;
use crate::domain::candidate::Candidate;
use crate::domain::event::{EventId, Host, Partition};
use crate::engine::command::Ticket;
use crate::engine::hosts::gates::{GateChange, Standing as GatesStanding};
use crate::engine::membership::Membership;
use crate::engine::{Engine, Rules};
use crate::handoff::{Command, Written};
use crate::lease::{Held, Lease, Standing};
use crate::writer::batch::Batch;
use crate::writer::found::Found;

/// A worker's process.
pub(super) struct Worker {
    pub(super) slot: usize,
    /// The number of this process in its slot.
    pub(super) run: u64,
    pub(super) id: Uuid,
    pub(super) clock: Clock,
    pub(super) engine: Engine<Arc<Lease>>,
    pub(super) draining: bool,

    pub(super) membership: Membership<Uuid>,
    pub(super) standing: Standing,
    pub(super) owned: Vec<Arc<Lease>>,
    /// Closed, until nothing is at work under them.
    pub(super) closing: Vec<Arc<Lease>>,
    pub(super) turn: Turn,
    /// The turn's number.
    pub(super) turns: u64,

    /// On their way to the writer.
    pub(super) commands: VecDeque<Command>,
    pub(super) writing: Option<Writing>,
    pub(super) commits: i64,
    /// Results that are kept back, where they need not come in the order of the commits.
    pub(super) kept_back: Vec<Written>,

    pub(super) consumers: BTreeMap<Partition, Consumer>,
    pub(super) tickets: BTreeMap<Ticket, Asked>,
    pub(super) last_ticket: u64,

    pub(super) attempts: BTreeMap<u64, Sending>,
    pub(super) last_attempt: u64,
    pub(super) letters_under_way: BTreeSet<EventId>,
    pub(super) looks_again: bool,
    /// What the engine says of gates, until the store has been told.
    pub(super) gate_changes: Vec<GateChange>,
    /// The store is being told, or asked.
    pub(super) gates_asked: bool,
    /// Hosts of changes that it is being told.
    pub(super) gates_pending: Vec<Host>,
    /// What it has said last.
    pub(super) gates_told: Arc<GatesStanding>,
}

/// What a worker does about its place among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Rests,
    /// Another turn follows at once, if so.
    IsTaken {
        again: bool,
    },
}

/// A transaction that is under way.
pub(super) struct Writing {
    pub(super) batch: Batch,
    pub(super) number: i64,
    /// What is told with its results: what was dropped from it.
    pub(super) told: Vec<Written>,
    /// Its commit was asked for, and not answered; what it found out.
    pub(super) doubt: Option<Box<Found>>,
}

/// A consumer of one partition.
pub(super) struct Consumer {
    pub(super) held: Held,
    pub(super) is_open: bool,
    /// Since when it waits for a former one's end.
    pub(super) since: Duration,
    /// Batches and decisions without an answer.
    pub(super) unanswered: usize,
}

/// Who waits for an answer of the engine.
pub(super) enum Asked {
    /// Messages, in their order.
    Batch { partition: Partition, epoch: i64, messages: VecDeque<(u64, Message)> },
    /// A decision.
    Decision { partition: Partition, epoch: i64, tag: u64 },
}

impl Asked {
    pub(super) fn consumer(&self) -> (Partition, i64) {
        match self {
            Self::Batch { partition, epoch, .. } | Self::Decision { partition, epoch, .. } => (*partition, *epoch),
        }
    }
}

/// An attempt on its way.
pub(super) struct Sending {
    pub(super) candidate: Candidate,
    pub(super) held: Held,
    pub(super) lapses: u64,
    /// By the worker's clock, once it has begun: its beginning and its end.
    pub(super) begun: Option<(Duration, Duration)>,
}

impl Worker {
    pub(super) fn new(slot: usize, run: u64, id: Uuid, clock: Clock, (lease, rules): (Duration, Rules)) -> Self {
        Self {
            slot,
            run,
            id,
            clock,
            engine: Engine::new(rules),
            draining: false,
            membership: Membership::new(lease, Duration::ZERO),
            standing: Standing::default(),
            owned: Vec::new(),
            closing: Vec::new(),
            turn: Turn::Rests,
            turns: 0,
            commands: VecDeque::new(),
            writing: None,
            commits: 0,
            kept_back: Vec::new(),
            consumers: BTreeMap::new(),
            tickets: BTreeMap::new(),
            last_ticket: 0,
            attempts: BTreeMap::new(),
            last_attempt: 0,
            letters_under_way: BTreeSet::new(),
            looks_again: false,
            gate_changes: Vec::new(),
            gates_asked: false,
            gates_pending: Vec::new(),
            gates_told: Arc::default(),
        }
    }

    /// Which process this is.
    pub(super) fn who(&self) -> (usize, u64) {
        (self.slot, self.run)
    }

    /// A number for a ticket.
    pub(super) fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket(self.last_ticket)
    }

    /// Partitions that are ours, with proof for each.
    pub(super) fn hold_all(&self) -> Vec<Held> {
        self.owned.iter().filter_map(Lease::hold).collect()
    }

    /// Whether nothing is left to be done by a worker that drains.
    pub(super) fn has_drained(&self) -> bool {
        self.draining && self.commands.is_empty() && self.writing.is_none() && self.attempts.is_empty()
    }
}
