//! What the stages hand to each other. They never import one another; [`crate::app`] connects them by bounded channels.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::broker::delay::Token;
use crate::domain::event::{Entity, EventId, Host, Partition};
use crate::domain::lanes::Candidate;
use crate::domain::verdict::Outcome;
use crate::host_limit::shared::Permit;
use crate::store::audit::Suspect;
use crate::store::lease::Held;
use crate::store::operator::Decided;

/// For dispatch: something that it has to look at.
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

/// For deliver: an attempt that is recorded, and is sent as soon as its host may have one more request.
pub struct Attempt {
    /// The event; its attempts count this one.
    pub candidate: Candidate,
    /// On its partition.
    pub held: Held,
    /// Its place at the host.
    pub permit: Permit,
}

/// For dispatch: an attempt that has ended.
pub struct Ended {
    /// The event.
    pub candidate: Candidate,
    /// On its partition.
    pub held: Held,
    /// What came of it.
    pub outcome: Outcome,
    /// From its beginning to the end of the answer; none if nobody knows.
    pub took: Option<Duration>,
}

/// To be announced after a commit: a retry's token is to go through the delay ladder.
#[derive(Debug)]
pub struct Wake {
    /// Whose due queue it comes to.
    pub partition: Partition,
    /// The wait.
    pub token: Token,
    /// How long.
    pub delay: Duration,
}

/// To be announced after a commit: a FAILED event is in the outbox.
#[derive(Debug)]
pub struct DeadLettered {
    /// The event.
    pub id: EventId,
    /// On its partition.
    pub held: Held,
}
