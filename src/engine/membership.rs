//! The place of one worker among the others: which partitions it takes and gives up, and how large its part of the cap is.
//!
//! It asks for one thing at a time ([`Membership::next_ask`]) and is told what came of it. What should be whose is computed by
//! [`shares`]; how long a lease holds, by [`lease`](crate::domain::lease).

use std::collections::VecDeque;
use std::hash::Hash;
use std::time::Duration;

use super::input::Cap;
use crate::domain::event::Partition;
use crate::domain::lease::{Look, Sightings, counts_until};
use crate::domain::shares::{self, Owner, Peer};

/// How often a worker looks at the others, whether or not it was told of a change.
const LOOK: Duration = Duration::from_millis(500);
/// Or so often within a lease, if that is short: the others are watched without a gap.
const LOOKS_IN_A_LEASE: u32 = 10;
/// How often a worker that has to give back a part of its share looks whether that is free.
const LOOK_AT_SHARE: Duration = Duration::from_millis(10);
/// How often older programs are kept from this worker's partitions: well within the time that these wait.
const KEEP_FROM_OLDER: Duration = Duration::from_mins(2);
/// A lease is renewed when this part of it is over: soon enough for three tries.
pub const RENEW_PART: u32 = 4;

/// What a renewal gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// Partitions that the member still owns, with their epochs.
    pub held: Vec<(Partition, i64)>,
    /// Its share of the cap on a host. It is gone if the member was found to be gone before.
    pub host_share: u16,
}

/// The cluster as one member sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View<M> {
    /// This member's number among the peers; none if it is leaving, or was found to be gone.
    pub me: Option<usize>,
    /// Members that are neither leaving nor gone, by seniority.
    pub peers: Vec<Peer>,
    /// Who has each partition.
    pub owners: Vec<Owner>,
    /// Of each partition, by its number.
    pub epochs: Vec<i64>,
    /// Of the other members that are not found to be gone: the last renewal, and the length of the lease, if it is known.
    pub renewals: Vec<(M, i64, Option<Duration>)>,
}

/// A partition that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The partition.
    pub partition: Partition,
    /// Its epoch from now on.
    pub epoch: i64,
    /// Its former owner gave it back, and had seen the queue without a consumer of before.
    pub graceful: bool,
}

/// A lease that is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// The partition.
    pub partition: Partition,
    /// Its epoch.
    pub epoch: i64,
    /// Nothing of a former owner's is left at the broker.
    pub graceful: bool,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask<M> {
    /// Renew the lease. Answered by [`Membership::renewed`].
    Renew,
    /// These leases are another owner's.
    Lose(Vec<(Partition, i64)>),
    /// The leases had ended before they were renewed: what waited for that has to begin again.
    Lapse,
    /// The leases count until this moment of our own clock.
    Extend(Duration),
    /// Let the engine have this part of the cap. Answered by [`Membership::cap_set`].
    Cap(Cap),
    /// Remove members that were found to be gone long ago.
    ForgetGone,
    /// Keep our partitions from programs that know nothing of renewals. If that fails, nothing follows from it.
    KeepFromOlder,
    /// Give partitions back. Answered by [`Membership::released`].
    Release(Vec<Released>),
    /// Say that this member is stopping.
    BeginToLeave,
    /// Look at the others. Answered by [`Membership::viewed`].
    Look,
    /// Note that members are gone.
    NoteGone(Vec<(M, i64)>),
    /// Tell the others to look.
    Tell,
    /// Set our share of the cap to less. Answered by [`Membership::lowered`].
    LowerShare(u16),
    /// Raise our share. Answered by [`Membership::raised`].
    RaiseShare {
        /// To this.
        target: u16,
        /// The cap that holds for all.
        cap: u16,
    },
    /// Let nothing begin under the leases on these partitions; they are given back when nothing is at work under them.
    Close(Vec<i32>),
    /// Take partitions at these epochs. Answered by [`Membership::claimed`].
    Claim(Vec<(Partition, i64)>),
}

/// The state of a worker's place. Times are those of a clock that nobody sets, and that goes on while the machine is suspended.
pub struct Membership<M> {
    lease: Duration,
    asks: VecDeque<Ask<M>>,
    /// Nothing is given back before it is known what is unused.
    gives_back: bool,
    /// When the last renewal that succeeded was asked for.
    renewed: Option<Duration>,
    counts_until: Duration,
    /// A renewal that does not hold yet: when it was asked for, until when the leases count by it, and our share of the cap if
    /// that is another.
    renewing: Option<(Duration, Duration, Option<u16>)>,
    /// The share of the cap that the store has for us, once the engine has it, too.
    host_share: u16,
    /// A larger share, which the engine does not have yet.
    raising: Option<u16>,
    /// What we own, with epochs.
    owned: Vec<(Partition, i64)>,
    /// Leases under which nothing is at work (any more): to be given back.
    unused: Vec<Released>,
    sightings: Sightings<M>,
    kept_from_older: Duration,
    /// When the lease is to be renewed again.
    renewal_due: Duration,
    leaving: bool,
    told_leaving: bool,
    rest: Duration,
    target: u16,
    cap: u16,
}

impl<M: Copy + Eq + Hash> Membership<M> {
    /// The place of a worker that has not joined yet. `now` is the time.
    #[must_use]
    pub fn new(lease: Duration, now: Duration) -> Self {
        Self {
            lease,
            asks: VecDeque::new(),
            gives_back: false,
            renewed: None,
            counts_until: Duration::ZERO,
            renewing: None,
            host_share: 0,
            raising: None,
            owned: Vec::new(),
            unused: Vec::new(),
            sightings: Sightings::default(),
            kept_from_older: now,
            renewal_due: Duration::ZERO,
            leaving: false,
            told_leaving: false,
            rest: Duration::ZERO,
            target: 0,
            cap: 0,
        }
    }

    /// Begins a turn: one look at the others, and what follows from it.
    pub fn begin(&mut self, now: Duration) {
        self.asks.clear();
        self.rest = self.until_next_look();
        if now >= self.renewal_due {
            self.asks.push_back(Ask::Renew);
        }
        self.gives_back = true;
        match (self.leaving, self.told_leaving) {
            (false, _) => self.asks.push_back(Ask::Look),
            (true, false) => self.asks.push_back(Ask::BeginToLeave),
            (true, true) => {}
        }
    }

    /// What is to be done next in this turn; none at its end, and then [`Self::rest`] says when the next one begins.
    pub fn next_ask(&mut self) -> Option<Ask<M>> {
        let gives_back_now = !matches!(self.asks.front(), Some(Ask::Renew)) && !self.is_renewing();
        if self.gives_back && gives_back_now {
            self.gives_back = false;
            if !self.unused.is_empty() {
                return Some(Ask::Release(self.unused.clone()));
            }
        }
        let ask = self.asks.pop_front();
        self.told_leaving |= ask == Some(Ask::BeginToLeave);
        if let Some((asked, until, share)) = self.renewing.take_if(|_| matches!(ask, Some(Ask::Extend(_)))) {
            (self.renewed, self.counts_until) = (Some(asked), until);
            self.renewal_due = asked + self.lease / RENEW_PART;
            self.host_share = share.unwrap_or(self.host_share);
        }
        ask
    }

    /// What follows from a renewal comes before anything is given back.
    fn is_renewing(&self) -> bool {
        let front = self.asks.front();
        matches!(front, Some(Ask::Lose(_) | Ask::Lapse | Ask::Extend(_) | Ask::Cap(Cap::Share(_))))
    }

    /// The time until the next turn, unless something happens before.
    #[must_use]
    pub fn rest(&self) -> Duration {
        self.rest
    }

    /// What was asked for came to nothing: the turn is over.
    pub fn failed(&mut self) {
        self.asks.clear();
        (self.renewing, self.raising) = (None, None);
        self.rest = self.until_next_look();
    }

    /// The store may be another one than that of the last renewal: the lease has to be renewed there.
    pub fn renew_at_once(&mut self) {
        self.renewal_due = Duration::ZERO;
    }

    /// Nothing begins any more: every lease is closed.
    pub fn begin_to_leave(&mut self) {
        self.leaving = true;
    }

    /// Whether this member is leaving.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.leaving
    }

    /// Nothing is at work under a lease any more.
    pub fn unused(&mut self, lease: Released) {
        self.unused.push(lease);
    }

    /// A write was fenced: the partition is another's.
    pub fn lost(&mut self, partition: Partition, epoch: i64) {
        self.owned.retain(|owned| *owned != (partition, epoch));
    }

    /// The lease was renewed, by what was asked for at `asked`.
    pub fn renewed(&mut self, asked: Duration, now: Duration, renewed: Renewed) {
        let Renewed { held, host_share } = renewed;
        let mut asks = Vec::new();
        // Before the leases count again: what is not ours any more, and what we may not have open any more.
        let lost: Vec<(Partition, i64)> = self.owned.extract_if(.., |owned| !held.contains(owned)).collect();
        if !lost.is_empty() {
            asks.push(Ask::Lose(lost));
        }
        let first = self.renewed.is_none();
        let is_another = first || host_share < self.host_share || now > self.counts_until;
        if is_another {
            asks.extend([Ask::Cap(Cap::Share(host_share.into())), Ask::Lapse]);
        }
        let until = counts_until(asked, self.lease);
        self.renewing = Some((asked, until, is_another.then_some(host_share)));
        asks.push(Ask::Extend(until));
        // A claim whose answer was lost: nothing is at work under it.
        let unknown = held.into_iter().filter(|held| !self.owned.contains(held));
        for (partition, epoch) in unknown {
            let released = Released { partition, epoch, graceful: false };
            if !self.unused.contains(&released) {
                self.unused.push(released);
            }
        }
        if now.saturating_sub(self.kept_from_older) >= KEEP_FROM_OLDER {
            self.kept_from_older = now;
            asks.push(Ask::KeepFromOlder);
        }
        if first {
            asks.extend([Ask::ForgetGone, Ask::Tell]);
        }
        self.ask_first(asks);
    }

    /// These were given back.
    pub fn released(&mut self, given: &[Released]) {
        self.unused.retain(|unused| !given.contains(unused));
        self.owned.retain(|owned| !given.iter().any(|given| (given.partition, given.epoch) == *owned));
        self.ask_first(vec![Ask::Tell]);
    }

    /// The look was taken.
    pub fn viewed(&mut self, look: Look, view: &View<M>) {
        // Not among them: the others have found us gone; the next renewal joins again.
        let Some(me) = view.me else {
            self.renewed = None;
            self.renewal_due = Duration::ZERO;
            self.rest = Duration::ZERO;
            return;
        };
        let renewals =
            view.renewals.iter().map(|(member, renewal, lease)| (*member, *renewal, lease.unwrap_or(self.lease)));
        let gone = self.sightings.note(look, renewals);
        if !gone.is_empty() {
            // Then there is another view of the cluster.
            self.rest = Duration::ZERO;
            self.ask_first(vec![Ask::NoteGone(gone), Ask::Tell]);
            return;
        }
        let plan = shares::plan(me, &view.peers, &view.owners);
        (self.target, self.cap) = (plan.host_share, shares::host_cap(&view.peers));
        let mut asks = vec![Ask::Cap(Cap::Begin(self.target.min(self.host_share).into()))];
        if !plan.give_up.is_empty() {
            asks.push(Ask::Close(plan.give_up));
        }
        let epoch = |partition: i32| usize::try_from(partition).ok().and_then(|at| view.epochs.get(at)).copied();
        let wanted: Vec<_> = plan.claim.iter().filter_map(|id| Some((Partition(*id), epoch(*id)?))).collect();
        if !wanted.is_empty() {
            asks.push(Ask::Claim(wanted));
        }
        self.ask_first(asks);
    }

    /// The engine has its part of the cap; `most_begun` is the most attempts that any one host has begun.
    ///
    /// Shrinks before others grow: a smaller share is told only when nothing is open beyond it, and a larger one is no more
    /// than what the others leave.
    pub fn cap_set(&mut self, cap: Cap, most_begun: usize) {
        if let Cap::Share(_) = cap {
            self.host_share = self.raising.take().unwrap_or(self.host_share);
            return;
        }
        let target = self.target;
        if target > self.host_share {
            self.ask_first(vec![Ask::RaiseShare { target, cap: self.cap }]);
        } else if target < self.host_share && most_begun > target.into() {
            self.rest = LOOK_AT_SHARE;
        } else if target < self.host_share {
            self.ask_first(vec![Ask::Cap(Cap::Share(target.into())), Ask::LowerShare(target)]);
        }
    }

    /// Our share of the cap is less now, and others may have the rest.
    pub fn lowered(&mut self, host_share: u16) {
        self.host_share = host_share;
    }

    /// Our share of the cap is this now.
    pub fn raised(&mut self, host_share: u16) {
        if host_share > self.host_share {
            self.raising = Some(host_share);
            self.rest = Duration::ZERO;
            self.ask_first(vec![Ask::Cap(Cap::Share(host_share.into())), Ask::Tell]);
        }
    }

    /// These partitions are ours now.
    pub fn claimed(&mut self, claimed: &[Claimed]) {
        self.owned.extend(claimed.iter().map(|claimed| (claimed.partition, claimed.epoch)));
    }

    /// Whether this member stands by: it has no part of the cap.
    #[must_use]
    pub fn stands_by(&self) -> bool {
        self.renewed.is_some() && self.cap > 0 && self.target == 0
    }

    fn ask_first(&mut self, asks: Vec<Ask<M>>) {
        for ask in asks.into_iter().rev() {
            self.asks.push_front(ask);
        }
    }

    fn until_next_look(&self) -> Duration {
        LOOK.min(self.lease / LOOKS_IN_A_LEASE)
    }
}
