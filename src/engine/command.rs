//! What the engine asks of the store, and what comes back. Commands are carried out in transactions, many at a time; answers
//! come in the order of the commits.
//!
//! `P` is the proof that the lease is held under which something is written.

use std::sync::Arc;
use std::time::Duration;

use super::lanes::Then;
use crate::domain::admission::{Admission, Newcomer};
use crate::domain::candidate::{Candidate, Token};
use crate::domain::event::{Digest, Entity, Event, EventId, Host, Partition};
use crate::domain::lifecycle::State;
use crate::domain::operator::Decided;
use crate::domain::verdict::{Decision, Outcome};

/// Names a batch of arrivals or an operator's decision, until whoever brought it has its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// An event that has come in.
#[derive(Clone, Debug)]
pub struct Arrival<P> {
    /// The event.
    pub event: Arc<Event>,
    /// Of its content.
    pub digest: Digest,
    /// On the partition that it came by.
    pub held: P,
    /// Where it waits for its host, if it is the head of its line.
    pub place: Place,
    /// Why the store can't hold it, once that is known.
    pub unstorable: Option<String>,
}

impl<P> Arrival<P> {
    /// What its record takes, about: of the rest, nothing is large.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.event.body.len() + self.event.properties.len()
    }

    /// What the rules of admission ask of it.
    #[must_use]
    pub fn newcomer(&self) -> Newcomer {
        Newcomer {
            sequence: self.event.sequence,
            digest: self.digest,
            came_by: self.event.partition,
            is_sent_back: self.event.is_sent_back,
        }
    }
}

/// Where an arrival waits for its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the store.
    Store,
    /// In memory.
    Memory,
    /// Nowhere: its first attempt begins as it is recorded.
    Begun,
}

/// What became of an arrival.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The rules' answer.
    pub admission: Admission,
    /// Its number, if it was recorded.
    pub id: Option<EventId>,
}

impl Admitted {
    /// Whether the arrival's first attempt was recorded with it: it is the head of a line of its own partition, and its host
    /// has room.
    #[must_use]
    pub fn begins<P>(&self, arrival: &Arrival<P>) -> bool {
        let is_ours =
            matches!(self.admission, Admission::Join { head: true, home, .. } if home == arrival.event.partition);
        is_ours && arrival.place == Place::Begun
    }
}

/// The result of an attempt, on its way to the store.
#[derive(Clone, Debug)]
pub struct Settlement<P> {
    /// The event; its attempts count the one that is settled.
    pub candidate: Candidate,
    /// On its partition.
    pub held: P,
    /// What came of the attempt.
    pub outcome: Outcome,
    /// What is done about it.
    pub decision: Decision,
    /// How long the attempt took; none if nobody knows.
    pub took: Option<Duration>,
}

impl<P> Settlement<P> {
    /// The state that is recorded.
    #[must_use]
    pub fn state(&self) -> State {
        self.decision.state()
    }

    /// Whether the entity goes on to its next event.
    #[must_use]
    pub fn frees_the_line(&self) -> bool {
        matches!(self.decision, Decision::Deliver | Decision::Fail(_))
    }
}

/// What the store is asked to do.
#[derive(Clone, Debug)]
pub enum Command<P> {
    /// Record arrivals.
    Admit {
        /// Of the batch that they are a part of.
        ticket: Ticket,
        /// In the order of arrival.
        arrivals: Vec<Arrival<P>>,
    },
    /// Record that an attempt begins.
    Start {
        /// The event, with the attempts begun so far.
        candidate: Candidate,
        /// On its partition.
        held: P,
    },
    /// Record what came of an attempt, and go on with its line.
    Settle {
        /// What came of it.
        settlement: Settlement<P>,
        /// If it ends in a final state that frees its line.
        then: Then,
    },
    /// Read the front of a line.
    ReadFront {
        /// Whose line.
        entity: Entity,
        /// On its partition.
        held: P,
    },
    /// Look whether an event's next attempt is due.
    Wake {
        /// Which.
        token: Token,
        /// On its partition.
        held: P,
    },
    /// Let an event wait for its host in the store.
    Park {
        /// The event.
        id: EventId,
        /// On its partition.
        held: P,
    },
    /// Read parked events of a host.
    Unpark(Unpark<P>),
    /// Carry out an operator's decision on a FAILED event.
    Operate {
        /// Of the decision.
        ticket: Ticket,
        /// What is decided.
        decided: Decided,
        /// On its partition.
        held: P,
    },
    /// Look for events of our lines that came in by other partitions' queues.
    Gather {
        /// On all partitions that are looked at.
        held: Vec<P>,
    },
    /// Look once more at open events that somebody should have in hand.
    Audit {
        /// The events.
        suspects: Vec<Suspect>,
        /// On all of their partitions.
        held: Vec<P>,
    },
    /// Take over a partition: see what its former owner left.
    TakeOver {
        /// On the partition.
        held: P,
    },
}

/// A read of parked events.
#[derive(Clone, Debug)]
pub struct Unpark<P> {
    /// The host.
    pub host: Host,
    /// Which of them.
    pub which: Which,
    /// None of these, which are paused.
    pub but: Vec<Entity>,
    /// On all partitions that are looked at.
    pub held: Vec<P>,
}

/// Which parked events of a host are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The oldest, so many at most.
    First(usize),
    /// One that may probe the host: with the most attempts left, and of these the oldest.
    Probe,
    /// One that may probe the host: the newest. What came at one time may have something in common that the host can't bear.
    ProbeNewest,
}

/// What the store has done.
#[derive(Clone, Debug)]
pub enum Written<P> {
    /// Arrivals were recorded, or refused.
    Admitted {
        /// Of the batch that they are a part of.
        ticket: Ticket,
        /// What became of each. A head with a place in the store was recorded as parked.
        admitted: Vec<(Arrival<P>, Admitted)>,
    },
    /// Arrivals were not recorded: their lease is lost.
    NotAdmitted {
        /// Of the batch that they are a part of.
        ticket: Ticket,
        /// All of them.
        arrivals: Vec<Arrival<P>>,
    },
    /// An attempt may be sent; the candidate counts it.
    Started {
        /// The event.
        candidate: Candidate,
        /// On its partition.
        held: P,
    },
    /// An attempt may not be sent: the event is not where it was thought to be, or the lease is lost.
    NotStarted(Candidate),
    /// The store has the event otherwise than this settlement: nothing was recorded.
    NotSettled(Candidate),
    /// An attempt is settled. What was asked for with it follows: [`Self::Started`] or [`Self::NotStarted`], or
    /// [`Self::Front`].
    Settled {
        /// What came of it.
        settlement: Settlement<P>,
        /// What was done with it: nothing, where a read had no room in the transaction.
        then: Then,
    },
    /// An event that was to be parked is, or its lease is lost.
    Parked(EventId),
    /// The front of a line was read.
    Front(Front),
    /// A wake-up found something.
    Woken(Woken),
    /// Parked events of a host were read.
    Unparked {
        /// The host.
        host: Host,
        /// In the order of recording.
        events: Vec<Candidate>,
        /// There may be more.
        more: bool,
    },
    /// An operator's decision is recorded.
    Operated(Ticket),
    /// An operator's decision is not recorded: the lease is lost. It comes again, to the next owner.
    NotOperated(Ticket),
    /// Notes of events that came in by other partitions' queues were taken.
    Gathered(Gathered),
    /// Open events were looked at once more.
    Audited(Confirmed),
    /// A partition was taken over.
    TakenOver {
        /// On the partition.
        held: P,
        /// Attempts that its former owner left in flight; without bodies.
        in_flight: Vec<Candidate>,
        /// Where heads of its lines are parked; a sweep finds those beyond the limit.
        hosts: Vec<Host>,
    },
}

/// The front of a line: events to be sent one after the other, and whether the line goes on behind them.
#[derive(Clone, Debug)]
pub struct Front {
    /// Whose line.
    pub entity: Entity,
    /// In order.
    pub events: Vec<Candidate>,
    /// There are more, though perhaps behind a gap.
    pub more: bool,
}

/// What a wake-up finds.
#[derive(Clone, Debug)]
pub enum Woken {
    /// The attempt is due.
    Due {
        /// The event.
        event: Candidate,
        /// Since the last attempt was settled.
        waited: Duration,
        /// Since the attempt became due.
        late: Duration,
    },
    /// It is due after a time.
    Early {
        /// Which.
        token: Token,
        /// Its partition.
        partition: Partition,
        /// From now.
        delay: Duration,
    },
}

/// These entities' lines go on with events that came in by other partitions' queues; those that were heads are parked at
/// these hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Whose lines go on.
    pub entities: Vec<Entity>,
    /// Hosts of heads that were parked.
    pub hosts: Vec<Host>,
}

/// Why an event is looked at more closely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// An attempt is recorded.
    InFlight,
    /// It is the head of its line and waits for nothing, yet is not parked.
    Ready,
    /// The event itself is gone.
    Orphan,
}

/// An open event that somebody should have in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The event.
    pub id: EventId,
    /// Its partition.
    pub partition: Partition,
    /// Its entity.
    pub entity: Entity,
    /// Attempts begun so far.
    pub attempts: u16,
    /// Why it is looked at.
    pub suspicion: Suspicion,
}

/// A head that waits for nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The event.
    pub id: EventId,
    /// Its partition.
    pub partition: Partition,
    /// Its entity.
    pub entity: Entity,
    /// Its host.
    pub host: Host,
}

/// What became of suspects.
#[derive(Clone, Debug, Default)]
pub struct Confirmed {
    /// Attempts that are still recorded as in flight; without bodies.
    pub in_flight: Vec<Candidate>,
    /// Heads that still wait for nothing, and are not parked.
    pub ready: Vec<Ready>,
    /// Rows without an event, which are gone now.
    pub orphans: Vec<(EventId, Entity)>,
}
