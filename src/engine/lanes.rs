//! The lanes: of each entity at work, who is being sent and who is next.
//!
//! A lane exists in memory exactly while the head of its entity's line is ready, in flight or being read; an entity
//! that waits for a retry, a missing number or its host has none. A lane keeps only a few of the events behind its
//! head: the rest of the line is in the store, and is read when the lane gets there.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};

use crate::domain::candidate::Candidate;
use crate::domain::event::{Entity, Event, EventId, Host, Partition};

/// The most events that a lane keeps behind its head.
pub const LINE_EVENTS: usize = 4;
/// The most bytes of body that a lane keeps behind its head.
pub const LINE_BYTES: usize = 16 * 1024;

/// What a lane does after its head became final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next event is the head: send it.
    Send,
    /// The line goes on in the store: read it, and call [`Lanes::loaded`].
    Load,
    /// The line has ended; the lane is gone.
    Gone,
}

/// What an entity's line goes on with when its head is final. The store can do it together with the head's end, so that
/// a line takes one commit for each of its events, and not two.
#[derive(Clone, Debug)]
pub enum Then {
    /// The attempt of the event behind it begins.
    Begin(Candidate),
    /// The line is read.
    Read,
    /// Nothing that is known of yet.
    Nothing,
}

/// Where a lane's head stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waits for its host. Left by [`Lanes::start`].
    Ready,
    /// An attempt is being recorded, sent or settled. Left by [`Lanes::finished`] and [`Lanes::forget`].
    Started,
    /// The head is final and the line is being read. Left by [`Lanes::loaded`].
    Loading,
}

struct Lane {
    head: Candidate,
    behind: VecDeque<Candidate>,
    behind_bytes: usize,
    /// The store holds open events of the entity that are not in `behind`.
    more: bool,
    /// Of these, one was read whose turn had come: it may go before the head.
    called: bool,
    phase: Phase,
    /// Bytes of body that came in with its first head, and are counted as long as the lane is.
    bytes: usize,
}

/// All lanes in memory.
#[derive(Default)]
pub struct Lanes {
    lanes: HashMap<Entity, Lane>,
    bytes: usize,
}

impl Lanes {
    /// Bytes of body that count as long as the lanes are that they came in with.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of lanes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lanes.len()
    }

    /// Whether there is no lane.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Whether an entity has a lane, whatever it is at.
    #[must_use]
    pub fn has(&self, entity: &Entity) -> bool {
        self.lanes.contains_key(entity)
    }

    /// Begins an attempt for the head of an entity's lane. None if there is nothing to begin.
    pub fn start(&mut self, entity: &Entity) -> Option<Candidate> {
        let lane = self.lanes.get_mut(entity).filter(|lane| lane.phase == Phase::Ready)?;
        lane.phase = Phase::Started;
        Some(lane.head.clone())
    }

    /// The event that a lane sends next or is sending.
    #[must_use]
    pub fn head(&self, entity: &Entity) -> Option<&Candidate> {
        self.lanes.get(entity).filter(|lane| lane.phase != Phase::Loading).map(|lane| &lane.head)
    }

    /// The event that a lane has waiting for its host.
    #[must_use]
    pub fn waiting(&self, entity: &Entity) -> Option<&Candidate> {
        self.lanes.get(entity).filter(|lane| lane.phase == Phase::Ready).map(|lane| &lane.head)
    }

    /// An event was recorded that nothing has to precede. True: it is the head of a new lane, send it.
    pub fn head_admitted(&mut self, candidate: Candidate, others_open: bool, bytes: usize) -> bool {
        self.open(candidate, others_open, bytes)
    }

    /// An event was recorded that nothing has to precede, together with its first attempt. False: the lane is at work on
    /// another event, which the store does not know of.
    ///
    /// A line that is being read has nothing left but what `others_open` says; what the read finds is ignored, or read
    /// after this event has become final: reads and records are told in the order of their commits.
    pub fn head_begun(&mut self, candidate: Candidate, others_open: bool, bytes: usize) -> bool {
        if self.head(&candidate.event.entity).is_some() {
            return false;
        }
        let (entity, behind) = (candidate.event.entity.clone(), VecDeque::new());
        let phase = Phase::Started;
        self.remove(&entity);
        self.bytes += bytes;
        let lane = Lane { head: candidate, behind, behind_bytes: 0, more: others_open, called: false, phase, bytes };
        self.lanes.insert(entity, lane);
        true
    }

    /// An event was recorded behind others of its entity.
    pub fn follower_admitted(&mut self, candidate: Candidate) {
        // An entity without a lane waits for something else; its line is read when that comes.
        if let Some(lane) = self.lanes.get_mut(&candidate.event.entity) {
            lane.append(candidate);
        }
    }

    /// The store holds more of this entity's line than its lane was told of.
    pub fn goes_on(&mut self, entity: &Entity) {
        if let Some(lane) = self.lanes.get_mut(entity) {
            lane.more = true;
        }
    }

    /// An event was read from the store because its turn has come: a retry that is due, or a place at its host. True:
    /// it is the head of a new lane, send it. False: its entity is at work already.
    ///
    /// Also for an attempt that a former owner left in flight, and then [`Self::start`] at once: without a lane, nobody
    /// would read the line when the attempt is settled as the last.
    pub fn woken(&mut self, candidate: Candidate) -> bool {
        self.open(candidate, true, 0)
    }

    fn open(&mut self, candidate: Candidate, more: bool, bytes: usize) -> bool {
        match self.lanes.entry(candidate.event.entity.clone()) {
            Entry::Occupied(mut lane) => {
                (lane.get_mut().more, lane.get_mut().called) = (true, true);
                false
            }
            Entry::Vacant(free) => {
                let behind = VecDeque::new();
                self.bytes += bytes;
                let phase = Phase::Ready;
                free.insert(Lane { head: candidate, behind, behind_bytes: 0, more, called: false, phase, bytes });
                true
            }
        }
    }

    /// What comes after the head of an entity's lane, whose last attempt has ended. [`Lanes::finished`] says the same when
    /// that is recorded, or more: the line may have grown.
    #[must_use]
    pub fn next(&self, entity: &Entity, id: EventId) -> Then {
        match self.lanes.get(entity) {
            Some(lane) if lane.head.id == id && lane.phase == Phase::Started => match lane.behind.front() {
                Some(next) => Then::Begin(next.clone()),
                None if lane.more => Then::Read,
                None => Then::Nothing,
            },
            _ => Then::Nothing,
        }
    }

    /// The head became final. Anything but the head is ignored.
    pub fn finished(&mut self, entity: &Entity, id: EventId) -> After {
        let Some(lane) = self.lanes.get_mut(entity).filter(|lane| lane.head.id == id && lane.phase == Phase::Started)
        else {
            return After::Gone;
        };
        if let Some(next) = lane.behind.pop_front() {
            lane.behind_bytes -= next.event.body.len();
            lane.head = next;
            lane.phase = Phase::Ready;
            After::Send
        } else if lane.more {
            lane.phase = Phase::Loading;
            After::Load
        } else {
            self.remove(entity);
            After::Gone
        }
    }

    /// The front of the line was read: `front` in order, each to be sent after the one before it; `more` says that it
    /// goes on. True: the first is the head, send it.
    ///
    /// Reads and records have to be told in the order of their commits: an event that is not in `front` and was told
    /// before it would be lost to the lane.
    pub fn loaded(&mut self, entity: &Entity, front: Vec<Candidate>, more: bool) -> bool {
        let Some(lane) = self.lanes.get_mut(entity).filter(|lane| lane.phase == Phase::Loading) else {
            return false;
        };
        let mut front = front.into_iter();
        let Some(head) = front.next() else {
            self.remove(entity);
            return false;
        };
        lane.phase = Phase::Ready;
        lane.head = head;
        (lane.more, lane.called) = (false, false);
        front.for_each(|candidate| lane.append(candidate));
        lane.more |= more;
        true
    }

    /// The head's attempt did not begin, because the store has it otherwise than this lane. True: read the line anew, and
    /// call [`Lanes::loaded`].
    pub fn not_started(&mut self, entity: &Entity, id: EventId) -> bool {
        let Some(lane) = self.lanes.get_mut(entity).filter(|lane| lane.head.id == id && lane.phase == Phase::Started)
        else {
            return false;
        };
        lane.behind.clear();
        lane.behind_bytes = 0;
        lane.phase = Phase::Loading;
        true
    }

    /// The head waits for something that is not in memory. True: another event's turn had come meanwhile (it was redriven, and
    /// goes before the head): read the line anew, and call [`Lanes::loaded`]. Otherwise the lane goes, and its line stays in the
    /// store.
    pub fn leave(&mut self, entity: &Entity) -> bool {
        let Some(lane) = self.lanes.get_mut(entity).filter(|lane| lane.called) else {
            self.remove(entity);
            return false;
        };
        lane.behind.clear();
        (lane.behind_bytes, lane.called, lane.phase) = (0, false, Phase::Loading);
        true
    }

    /// The entity's lane goes, and its line stays in the store.
    pub fn forget(&mut self, entity: &Entity) {
        self.remove(entity);
    }

    /// The partition has another owner now. Gives the hosts that heads were waiting for.
    pub fn forget_partition(&mut self, partition: Partition) -> HashSet<Host> {
        let mut hosts = HashSet::new();
        self.lanes.retain(|_, lane| {
            let goes = lane.head.event.partition == partition;
            if goes {
                self.bytes -= lane.bytes;
                hosts.extend((lane.phase == Phase::Ready).then(|| lane.head.event.host.clone()));
            }
            !goes
        });
        hosts
    }

    fn remove(&mut self, entity: &Entity) {
        self.bytes -= self.lanes.remove(entity).map_or(0, |lane| lane.bytes);
    }
}

impl Lane {
    fn append(&mut self, candidate: Candidate) {
        let bytes = candidate.event.body.len();
        let room = self.behind.len() < LINE_EVENTS && self.behind_bytes + bytes <= LINE_BYTES;
        if self.more || self.phase == Phase::Loading || !room || !self.continues_with(&candidate.event) {
            self.more = true;
        } else {
            self.behind_bytes += bytes;
            self.behind.push_back(candidate);
        }
    }

    /// Whether `event` comes right after the last event of the lane: by arrival, or by its number.
    fn continues_with(&self, event: &Event) -> bool {
        let last = self.behind.back().unwrap_or(&self.head);
        match (last.event.sequence, event.sequence) {
            (None, None) => true,
            (Some(last), Some(this)) => last.next() == this,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
