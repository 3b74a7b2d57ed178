//! What the stages hand to each other. They never import one another; [`crate::app`] connects them by bounded channels.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::domain::candidate::Token;
use crate::domain::event::{Entity, Host, Partition};
use crate::domain::operator::Decided;
use crate::engine;
use crate::engine::command::{Admitted, Suspect};
use crate::engine::hosts::gates::{GateChange, Standing};
use crate::engine::input::Cap;
use crate::lease::Held;

/// What the store is asked to do.
pub type Command = engine::command::Command<Held>;
/// What the store has done.
pub type Written = engine::command::Written<Held>;
/// An event that has come in.
pub type Arrival = engine::command::Arrival<Held>;
/// The result of an attempt, on its way to the store.
pub type Settlement = engine::command::Settlement<Held>;
/// For deliver: an attempt that is recorded, and that its host may have now.
pub type Attempt = engine::input::Attempt<Held>;
/// For the engine: an attempt that has ended.
pub type Ended = engine::input::Ended<Held>;
/// To be announced after a commit: a FAILED event is in the outbox.
pub type DeadLettered = engine::input::DeadLettered<Held>;

/// For the engine: messages that keep the contract, of one partition.
pub struct Arrived {
    /// In the order of arrival.
    pub arrivals: Vec<Arrival>,
    /// Told what became of each, a part at a time; dropped if the lease is lost. It has room for all of them.
    pub answers: mpsc::Sender<Vec<Admitted>>,
}

/// For the engine: something that it has to look at.
#[derive(Debug)]
pub enum Notice {
    /// A token came out of the delay ladder.
    Due(Partition, Token),
    /// A retry's time is over, and perhaps its token was lost.
    Overdue(Partition, Entity, Token),
    /// The store holds parked events of a host.
    Parked(Host),
    /// Events of our lines came in by other workers' queues.
    Strays,
    /// Open events that somebody should have in hand.
    Suspects(Vec<Suspect>),
    /// An operator's decision, and who is told when it is recorded.
    Operate(Partition, Decided, oneshot::Sender<()>),
}

/// For the engine: what the store says of gates and pauses.
#[derive(Debug)]
pub struct GatesTold {
    /// All that are not open, and what is paused.
    pub told: Arc<Standing>,
    /// Hosts of changes that are recorded, or could not be.
    pub done: Vec<Host>,
}

/// The engine's end of what keeps its gates and those of the store together.
pub struct GatePorts {
    /// What the store says.
    pub told: mpsc::Receiver<GatesTold>,
    /// What the engine says. There is room for all that it has on its way at a time.
    pub said: mpsc::Sender<GateChange>,
}

/// Sets this worker's part of the cap on hosts.
#[derive(Clone, Debug)]
pub struct CapSetter(mpsc::Sender<(Cap, oneshot::Sender<usize>)>);

impl CapSetter {
    /// The setter, and where the engine hears of it.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<(Cap, oneshot::Sender<usize>)>) {
        let (setter, set) = mpsc::channel(1);
        (Self(setter), set)
    }

    /// Waits until it holds; gives the most attempts that any one host has begun then.
    pub async fn set(&self, cap: Cap) -> usize {
        let (holds, answer) = oneshot::channel();
        // Without an engine, nothing is begun.
        let _ = self.0.send((cap, holds)).await;
        answer.await.unwrap_or(0)
    }
}
