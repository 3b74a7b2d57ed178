//! A worker's place among the others: the membership asks, and is answered.

use std::time::Duration;

use super::messages::{Member, Process, Request};
use super::rules::Rule;
use super::worker::{Turn, Worker};
use super::world::{Happening, LEASE, Timer, World};
use crate::domain::event::Partition;
use crate::domain::lease::Look;
use crate::engine::input::Input;
use crate::engine::membership::{Ask, RENEW_PART};
use crate::lease::Lease;

impl World {
    /// A worker looks at once.
    pub(super) fn look_now(&mut self, worker: &mut Worker) {
        match worker.turn {
            Turn::Rests => {
                worker.turns += 1;
                let timer = Timer::Turn(worker.turns);
                self.after(worker, Duration::ZERO, timer);
            }
            Turn::IsTaken { .. } => worker.turn = Turn::IsTaken { again: true },
        }
    }

    /// All others are told to look.
    pub(super) fn tell_all(&mut self, by: Process) {
        for slot in 0..self.slots.len() {
            let Some(mut worker) = self.slots[slot].worker.take() else { continue };
            if worker.who() != by {
                self.look_now(&mut worker);
            }
            self.slots[slot].worker = Some(worker);
        }
    }

    pub(super) fn begin_turn(&mut self, worker: &mut Worker) {
        worker.turns += 1;
        worker.turn = Turn::IsTaken { again: false };
        let fails = Timer::TurnFails(worker.turns);
        self.after_own(worker, LEASE / RENEW_PART, fails);
        let fenced = worker.owned.iter().filter(|lease| lease.is_lost());
        let fenced: Vec<_> = fenced.map(|lease| (lease.partition, lease.epoch)).collect();
        self.lose_leases(worker, &fenced);
        worker.membership.begin(worker.clock.shows(self.now));
        self.drive(worker);
    }

    pub(super) fn fail_turn(&mut self, worker: &mut Worker) {
        worker.membership.failed();
        self.end_turn(worker);
    }

    fn end_turn(&mut self, worker: &mut Worker) {
        worker.turns += 1;
        let again = worker.turn == (Turn::IsTaken { again: true });
        worker.turn = Turn::Rests;
        let rest = if again { Duration::ZERO } else { worker.membership.rest() };
        let timer = Timer::Turn(worker.turns);
        // A turn that follows at once would come to nothing again where the store is not reached.
        self.after_own(worker, rest.max(Duration::from_millis(1)), timer);
    }

    /// Does what the membership asks, up to a question to the store.
    fn drive(&mut self, worker: &mut Worker) {
        while let Some(ask) = worker.membership.next_ask() {
            match ask {
                Ask::Lose(lost) => self.lose_leases(worker, &lost),
                Ask::Lapse => worker.standing.lapse(),
                Ask::Extend(until) => {
                    let until =
                        if self.keeps(Rule::CountFromBefore) { until } else { worker.clock.shows(self.now) + LEASE };
                    worker.standing.extend(until);
                }
                Ask::Cap(cap) => {
                    self.feed(worker, Input::Cap(cap));
                    let begun = if self.keeps(Rule::ShrinkBeforeTelling) { worker.engine.most_begun() } else { 0 };
                    worker.membership.cap_set(cap, begun);
                }
                Ask::Close(partitions) => Self::close_leases(worker, |partition| partitions.contains(&partition.0)),
                ask => {
                    let request = Request::Member(worker.turns, ask);
                    return self.ask(worker, request);
                }
            }
        }
        self.end_turn(worker);
    }

    /// The store has answered for a turn.
    pub(super) fn membership_answered(&mut self, worker: &mut Worker, turn: u64, answer: Member) {
        if turn != worker.turns {
            return;
        }
        let now = worker.clock.shows(self.now);
        // The latest that it may have been asked, and so the most careful.
        let asked = |at: Duration| worker.clock.shows(at.saturating_sub(Duration::from_millis(4)));
        match answer {
            Member::Renewed(at, renewed) => worker.membership.renewed(asked(at), now, renewed),
            Member::Viewed(at, view) => {
                let look = Look { asked: asked(at), answered: now };
                worker.membership.viewed(look, &view);
            }
            Member::Raised(share) => worker.membership.raised(share),
            Member::Claimed(claimed) => {
                worker.membership.claimed(&claimed);
                let leases: Vec<_> = claimed.iter().map(|claimed| worker.standing.lease(claimed)).collect();
                worker.owned.extend(leases);
                self.leases_changed(worker);
            }
            Member::Done(Ask::Release(given)) => {
                worker.membership.released(&given);
                let is_given =
                    |lease: &Lease| given.iter().any(|g| (g.partition, g.epoch) == (lease.partition, lease.epoch));
                worker.owned.retain(|lease| !is_given(lease));
                self.leases_changed(worker);
            }
            Member::Done(Ask::LowerShare(share)) => worker.membership.lowered(share),
            Member::Done(_) => {}
        }
        self.drive(worker);
    }

    fn leases_changed(&mut self, worker: &mut Worker) {
        let owned = worker.owned.clone();
        self.feed(worker, Input::Leases(owned));
    }

    pub(super) fn close_leases(worker: &mut Worker, which: impl Fn(Partition) -> bool) {
        for lease in worker.owned.iter().filter(|lease| !lease.is_closed() && which(lease.partition)) {
            lease.close();
            worker.closing.push(lease.clone());
        }
    }

    fn lose_leases(&mut self, worker: &mut Worker, lost: &[(Partition, i64)]) {
        if lost.is_empty() {
            return;
        }
        for (partition, epoch) in lost {
            worker.membership.lost(*partition, *epoch);
        }
        let is_lost = |lease: &Lease| lost.contains(&(lease.partition, lease.epoch));
        worker.owned.iter().filter(|lease| is_lost(lease)).for_each(|lease| lease.lose());
        worker.owned.retain(|lease| !is_lost(lease));
        self.leases_changed(worker);
    }

    /// Leases under which nothing is at work any more are given back.
    pub(super) fn tend_closing(&mut self, worker: &mut Worker) {
        let drains = self.keeps(Rule::DrainBeforeRelease);
        let unused: Vec<_> = worker.closing.extract_if(.., |lease| !drains || lease.is_unused()).collect();
        for lease in &unused {
            if worker.owned.iter().any(|owned| std::sync::Arc::ptr_eq(owned, lease)) {
                worker.membership.unused(lease.released());
            }
        }
        if !unused.is_empty() {
            self.look_now(worker);
        }
    }

    /// A worker is told to stop.
    pub(super) fn drain(&mut self, worker: &mut Worker) {
        let unsent = std::mem::take(&mut worker.commands).into();
        worker.draining = true;
        self.feed(worker, Input::Stop { unsent });
        worker.membership.begin_to_leave();
        Self::close_leases(worker, |_| true);
        self.look_now(worker);
    }

    /// A worker dies.
    pub(super) fn kill(&mut self, slot: usize, back: Duration) {
        if self.slots[slot].worker.take().is_some() {
            self.promises.worker_died(slot, self.slots[slot].run, self.now);
            self.slots[slot].run += 1;
            self.drop_connection(slot);
        }
        (self.slots[slot].paused_until, self.slots[slot].loses_commits) = (Duration::ZERO, 0);
        self.agenda.enter(self.now + back, Happening::Start(slot));
    }
}
