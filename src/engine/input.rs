//! What the engine is told, and what it wants done.

use std::sync::Arc;
use std::time::Duration;

use super::command::{Admitted, Arrival, Command, Suspect, Ticket, Written};
use super::hosts::gates::{GateChange, Standing};
use super::leases::Grant;
use crate::domain::candidate::{Candidate, Token};
use crate::domain::destination::{Destination, Destinations};
use crate::domain::event::{Entity, Event, EventId, Host, Partition};
use crate::domain::operator::Decided;
use crate::domain::verdict::Outcome;

/// What has happened.
pub enum Input<G: Grant> {
    /// Messages that keep the contract came in by one partition's queue. They are recorded in their order.
    Arrived {
        /// Of the answer.
        ticket: Ticket,
        /// In the order of arrival.
        arrivals: Vec<Arrival<G::Proof>>,
    },
    /// Commands were carried out: in the order of the commits.
    Written(Vec<Written<G::Proof>>),
    /// Attempts have ended.
    Ended(Vec<Ended<G::Proof>>),
    /// The leases that are ours now.
    Leases(Vec<G>),
    /// Our part of the cap on hosts is another.
    Cap(Cap),
    /// What holds for receivers is another.
    Destinations(Arc<Destinations>),
    /// A token came out of the delay ladder.
    Due(Partition, Token),
    /// A retry's time is over, and perhaps its token was lost.
    Overdue(Partition, Entity, Token),
    /// The store holds parked events of a host.
    Parked(Host),
    /// What the store says of gates and pauses.
    Gates {
        /// All that are not open, and what is paused.
        told: Arc<Standing>,
        /// Hosts of changes that the store has recorded, or could not.
        done: Vec<Host>,
    },
    /// Events of our lines came in by other workers' queues.
    Strays,
    /// Open events that somebody should have in hand.
    Suspects(Vec<Suspect>),
    /// An operator's decision.
    Operate(Ticket, Partition, Decided),
    /// Nothing new begins any more. What was to be written and has not been sent to the store is given back.
    Stop {
        /// In their order.
        unsent: Vec<Command<G::Proof>>,
    },
    /// Time has passed.
    Look,
}

/// A part of the cap on hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// Requests that one host may have from here.
    Share(usize),
    /// Attempts that one host may have begun, before the share becomes smaller.
    Begin(usize),
}

/// An attempt that has ended.
#[derive(Clone, Debug)]
pub struct Ended<P> {
    /// The event.
    pub candidate: Candidate,
    /// On its partition.
    pub held: P,
    /// What came of it; none if the lease was lost before it was sent, so that the next owner settles it.
    pub outcome: Option<Outcome>,
    /// From its beginning to the end of the answer; none if nobody knows.
    pub took: Option<Duration>,
    /// What held for its receiver when it began; none if nobody knows: then what holds now counts.
    pub destination: Option<Arc<Destination>>,
}

/// What is to be done. The parts are independent of each other; within each, order matters.
#[derive(Debug)]
pub struct Effects<P> {
    /// To the store.
    pub commands: Vec<Command<P>>,
    /// To be sent.
    pub attempts: Vec<Attempt<P>>,
    /// To the delay ladder. One that is lost is found by a sweep.
    pub wakes: Vec<Wake>,
    /// To the dead-letter exchange. One that is lost is found by a sweep.
    pub dead_letters: Vec<DeadLettered<P>>,
    /// Arrivals have their answer: a part of a batch at a time.
    pub admitted: Vec<(Ticket, Vec<Admitted>)>,
    /// Operators' decisions are recorded.
    pub operated: Vec<Ticket>,
    /// Nothing (more) becomes of these: what they stand for comes again, to the next owner.
    pub refused: Vec<Ticket>,
    /// Of gates: to be recorded, for all workers.
    pub gates: Vec<GateChange>,
    /// To be counted, traced and told.
    pub notes: Vec<Note>,
    /// Newcomers wait, or hosts for their rate: [`Input::Look`] should follow soon.
    pub look_again: bool,
}

impl<P> Default for Effects<P> {
    fn default() -> Self {
        Self {
            commands: Vec::new(),
            attempts: Vec::new(),
            wakes: Vec::new(),
            dead_letters: Vec::new(),
            admitted: Vec::new(),
            operated: Vec::new(),
            refused: Vec::new(),
            gates: Vec::new(),
            notes: Vec::new(),
            look_again: false,
        }
    }
}

/// An attempt that is recorded, and that its host may have now.
#[derive(Clone, Debug)]
pub struct Attempt<P> {
    /// The event; its attempts count this one.
    pub candidate: Candidate,
    /// On its partition.
    pub held: P,
    /// It probes a host whose gate is shut.
    pub probes: bool,
}

/// A retry's token is to go through the delay ladder.
#[derive(Clone, Debug)]
pub struct Wake {
    /// Whose due queue it comes to.
    pub partition: Partition,
    /// The wait.
    pub token: Token,
    /// How long.
    pub delay: Duration,
}

/// A FAILED event is in the outbox.
#[derive(Clone, Debug)]
pub struct DeadLettered<P> {
    /// The event.
    pub id: EventId,
    /// On its partition.
    pub held: P,
}

/// What people want to know.
#[derive(Clone, Debug)]
pub enum Note {
    /// An event is delivered.
    Delivered {
        /// When it was ingested: milliseconds since 1970-01-01 UTC.
        ingested_ms: u64,
    },
    /// Another attempt follows.
    Retried,
    /// A retry goes on.
    Waited {
        /// The event.
        event: Arc<Event>,
        /// Attempts begun so far.
        attempts: u16,
        /// Since the last attempt was settled.
        waited: Duration,
        /// Since the next one became due.
        late: Duration,
    },
    /// An attempt is not sent by us, or was not.
    GivenUp {
        /// Its host.
        host: Host,
        /// What is recorded of it.
        outcome: Outcome,
    },
    /// Nobody had an event in hand.
    Rescued {
        /// The event.
        id: EventId,
        /// Its entity.
        entity: Entity,
        /// Where it stood.
        adrift: Adrift,
    },
}

/// Where an event stood that nobody had in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adrift {
    /// This attempt was recorded; its outcome is unknown.
    InFlight(u16),
    /// It was ready to be sent.
    Ready,
    /// The event itself was gone.
    Orphan,
}
