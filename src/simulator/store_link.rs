//! Between workers and the store: requests that are served, and those that are lost.

use std::time::Duration;

use super::messages::{Member, Process, Reply, Request, Swept};
use super::rules::Rule;
use super::worker::Worker;
use super::world::{Happening, LEASE, Timer, World};
use crate::domain::event::{IdempotencyKey, Partition};
use crate::engine::membership::Ask;
use crate::writer::found::Found;
use uuid::Uuid;

/// How late a retry or a letter is when its message is taken for lost.
const LATE: Duration = Duration::from_secs(2);

impl World {
    /// Asks the store. The answer may never come.
    pub(super) fn ask(&mut self, worker: &Worker, request: Request) {
        let latency = self.some(100, 4_000);
        let happening = Happening::Store(worker.who(), self.generation, request);
        self.agenda.enter(self.now + latency, happening);
    }

    fn is_cut(&self, process: Process) -> bool {
        let slot = &self.slots[process.0];
        self.store_down_until > self.now || (slot.run == process.1 && slot.cut_until > self.now)
    }

    /// A request reaches the store, also one of a worker that has died since.
    pub(super) fn serve(&mut self, process: Process, generation: u64, request: Request) {
        let is_commit = matches!(request, Request::Commit(_));
        if self.is_cut(process) || generation != self.generation {
            if is_commit || matches!(request, Request::WasCommitted(_)) {
                self.lose(process, None);
            } else if let Request::Letter(id, _) | Request::MarkPublished(id, ..) = request {
                self.reply(process, Reply::NoLetter(id));
            } else if let Request::Gates(..) = request {
                self.lose_gates(process);
            }
            return;
        }
        match request {
            Request::Commit(number) => self.serve_commit(process, number),
            Request::Member(turn, ask) => {
                let answer = self.serve_member(process, ask);
                self.reply(process, Reply::Member(turn, answer));
            }
            Request::WasCommitted(number) => {
                let id = Self::id_of(process);
                let committed = self.store.commits.get(&id).is_some_and(|last| *last >= number);
                self.reply(process, Reply::WasCommitted(committed));
            }
            Request::Sweep(partitions) => {
                let swept = self.serve_sweep(&partitions);
                self.reply(process, Reply::Sweep(Box::new(swept)));
            }
            Request::Letter(id, held) => match self.store.unpublished(id) {
                Some(letter) => {
                    self.promises.letter_read(&self.store, id);
                    self.reply(process, Reply::Letter(letter, id, held));
                }
                None => self.reply(process, Reply::NoLetter(id)),
            },
            Request::MarkPublished(id, failed_us, partition, epoch) => {
                self.remember();
                self.store.mark_published(id, failed_us, partition, epoch);
                self.reply(process, Reply::Marked(id));
            }
            Request::Gates(changes, partitions) => {
                let told = self.serve_gates(process, &changes, &partitions);
                self.reply(process, Reply::Gates(Some(told)));
            }
            Request::Expire(after) => {
                self.remember();
                let now = self.store_now();
                self.promises.expiring(&self.store, &self.broker);
                let before: Vec<IdempotencyKey> = self.store.keys.keys().cloned().collect();
                self.store.expire(after, 8, now);
                let gone = before.into_iter().filter(|key| !self.store.keys.contains_key(key));
                self.promises.expired(&self.store, gone);
            }
        }
    }

    /// A worker's name at the store.
    pub(super) fn id_of(process: Process) -> Uuid {
        Uuid::from_u128(u128::from(process.1) << 16 | process.0 as u128)
    }

    fn serve_commit(&mut self, process: Process, number: i64) {
        let loses = self.slots[process.0].loses_commits > 0 && self.slots[process.0].run == process.1;
        let answers = self.slots[process.0].loses_answers;
        if loses {
            self.slots[process.0].loses_commits -= 1;
            if !answers {
                return self.lose(process, None);
            }
        }
        let now = self.store_now();
        let Some(worker) = self.slots[process.0].worker.take().filter(|worker| worker.run == process.1) else { return };
        self.remember();
        let answer = match &worker.writing {
            Some(writing) if writing.number == number => {
                self.promises.committing(&self.store, &writing.batch);
                let applied = self.store.apply(worker.id, number, &writing.batch, now);
                if let Ok(found) = &applied {
                    self.promises.committed((&self.store, now), &writing.batch, found);
                }
                Some(applied)
            }
            _ => None,
        };
        self.slots[process.0].worker = Some(worker);
        match answer {
            None => {}
            Some(Err(lost)) => self.reply(process, Reply::Fenced(lost)),
            Some(Ok(found)) if loses => self.lose(process, Some(Box::new(found))),
            Some(Ok(found)) => self.reply(process, Reply::Done(Box::new(found))),
        }
    }

    /// The writer sees that its connection broke.
    fn lose(&mut self, process: Process, found: Option<Box<Found>>) {
        let latency = self.some(5_000, 1_500_000);
        let reply = Timer::Reply(self.generation, Box::new(Reply::Lost(found)));
        self.agenda.enter(self.now + latency, Happening::At(process, reply));
    }

    fn reply(&mut self, process: Process, reply: Reply) {
        let latency = self.some(100, 4_000);
        let timer = Timer::Reply(self.generation, Box::new(reply));
        self.agenda.enter(self.now + latency, Happening::At(process, timer));
    }

    /// Whether an answer is lost on its way back.
    pub(super) fn loses_answer(&self, worker: &Worker, generation: u64) -> bool {
        self.is_cut(worker.who()) || generation != self.generation
    }

    fn serve_member(&mut self, process: Process, ask: Ask<Uuid>) -> Member {
        self.remember();
        let id = Self::id_of(process);
        match &ask {
            Ask::Renew => {
                let ends = i64::try_from((self.store_now() + LEASE).as_micros()).unwrap_or(i64::MAX);
                return Member::Renewed(self.now, self.store.renew(id, self.scenario.cap, LEASE, ends));
            }
            Ask::Look => {
                let view = self.store.view(id);
                if !self.keeps(Rule::WatchAWholeLease) {
                    let others: Vec<_> = view.renewals.iter().map(|(member, renewal, _)| (*member, *renewal)).collect();
                    self.store.note_gone(&others);
                }
                return Member::Viewed(self.now, view);
            }
            Ask::RaiseShare { target, cap } => return Member::Raised(self.store.raise_share(id, *target, *cap)),
            Ask::Claim(wanted) => return Member::Claimed(self.store.claim(id, wanted)),
            Ask::Release(given) => self.store.release(id, given),
            Ask::BeginToLeave => self.store.begin_to_leave(id),
            Ask::NoteGone(gone) => self.store.note_gone(gone),
            Ask::LowerShare(share) => self.store.lower_share(id, *share),
            Ask::Tell => self.tell_all(process),
            Ask::ForgetGone
            | Ask::KeepFromOlder
            | Ask::Lose(_)
            | Ask::Lapse
            | Ask::Extend(_)
            | Ask::Cap(_)
            | Ask::Close(_) => {}
        }
        Member::Done(ask)
    }

    fn serve_sweep(&mut self, partitions: &[Partition]) -> Swept {
        let now = self.store_now();
        let keep = |rule, world: &Self| world.keeps(rule);
        let mut swept = Swept {
            overdue: self.store.overdue(partitions, LATE, now),
            hosts: self.store.parked_hosts(partitions, 100),
            strays: self.store.has_strays(partitions),
            suspects: self.store.suspects(partitions),
            letters: self.store.left_behind(partitions, LATE, now),
        };
        if !keep(Rule::SweepOverdue, self) {
            swept.overdue.clear();
        }
        if !keep(Rule::SweepParked, self) {
            swept.hosts.clear();
        }
        if !keep(Rule::SweepLetters, self) {
            swept.letters.clear();
        }
        if !keep(Rule::SweepAdrift, self) {
            swept.suspects.clear();
        }
        swept
    }
}
