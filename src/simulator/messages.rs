//! What workers and the store say to each other.

use std::time::Duration;

use uuid::Uuid;

use super::store::Letter;
use crate::domain::candidate::Token;
use crate::domain::event::{Entity, EventId, Host, Partition};
use crate::engine::command::Suspect;
use crate::engine::hosts::gates::{GateChange, Standing};
use crate::engine::membership::{Ask, Claimed, Renewed, View};
use crate::lease::Held;
use crate::writer::found::Found;

/// A process: its slot, and its number in that.
pub(super) type Process = (usize, u64);

/// What the store is asked.
pub(super) enum Request {
    /// For a turn.
    Member(u64, Ask<Uuid>),
    /// A transaction of the writer: its number.
    Commit(i64),
    /// Whether a commit took place.
    WasCommitted(i64),
    /// Everything that a sweep looks at.
    Sweep(Vec<Partition>),
    /// A letter that is to be published.
    Letter(EventId, Held),
    /// A letter was published.
    MarkPublished(EventId, i64, Partition, i64),
    /// Finished events are deleted.
    Expire(Duration),
    /// Gates have changed; of these partitions, hosts may be probed.
    Gates(Vec<GateChange>, Vec<Partition>),
}

/// What it answers.
pub(super) enum Reply {
    Member(u64, Member),
    /// It was committed, and this was found out.
    Done(Box<Found>),
    /// It was not: these leases are another's.
    Fenced(Vec<Held>),
    /// Nobody knows: the connection broke. What was found out, if it was.
    Lost(Option<Box<Found>>),
    WasCommitted(bool),
    Sweep(Box<Swept>),
    Letter(Letter, EventId, Held),
    NoLetter(EventId),
    Marked(EventId),
    /// What there is to know of gates; none if the store was not reached.
    Gates(Option<Standing>),
}

/// An answer for a turn.
pub(super) enum Member {
    Done(Ask<Uuid>),
    Renewed(Duration, Renewed),
    Viewed(Duration, View<Uuid>),
    Raised(u16),
    Claimed(Vec<Claimed>),
}

/// What a sweep has found.
pub(super) struct Swept {
    pub(super) overdue: Vec<(Partition, Entity, Token)>,
    pub(super) hosts: Vec<Host>,
    pub(super) strays: bool,
    pub(super) suspects: Vec<Suspect>,
    pub(super) letters: Vec<(EventId, Partition)>,
}
