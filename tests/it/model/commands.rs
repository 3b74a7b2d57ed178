//! Random commands. They are made of what the model has; some of them are about something that is not so (any more), as late
//! results and old tokens are.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use onceward::domain::candidate::{Candidate, Token};
use onceward::domain::event::{Entity, Event, EventId, Partition};
use onceward::domain::lifecycle::State;
use onceward::domain::operator::{Decided, Verb};
use onceward::domain::verdict::{Decision, Failure, NoResponse, NotSent, Outcome};
use onceward::engine::command::{Suspect, Suspicion, Unpark, Which};
use onceward::engine::lanes::Then;
use onceward::handoff::{Command, Settlement};
use onceward::lease::Held;
use onceward::simulator::store::Open;

use super::trial::Trial;

/// Either it is due at once, or not while the test runs.
const DELAYS: [Duration; 2] = [Duration::ZERO, Duration::from_hours(1)];
/// No event has this number.
const NOWHERE: EventId = EventId(-7);

impl Trial<'_> {
    /// The commands of one transaction.
    pub fn commands(&mut self, who: usize) -> Vec<Command> {
        // The engine settles an attempt once.
        let mut settled = BTreeSet::new();
        let mut unparks = 0;
        let mut commands = Vec::new();
        for _ in 0..=self.random.usize(..6) {
            let command = match self.random.u8(..100) {
                0..=21 => Some(self.admit(who)),
                22..=48 => self.settle(who, &mut settled),
                49..=60 => self.start(who),
                61..=66 => Some(self.read_front(who)),
                67..=71 => self.wake(who),
                72..=76 => self.park(who),
                77..=81 if unparks < 4 => {
                    unparks += 1;
                    Some(self.unpark(who))
                }
                82..=88 => self.operate(who),
                89..=91 => Some(Command::Gather { held: self.some_held(who) }),
                92..=95 => self.audit(who),
                96..=97 => {
                    let held = self.held(who, Partition(0));
                    Some(Command::TakeOver { held })
                }
                _ => None,
            };
            commands.extend(command);
        }
        if commands.is_empty() { vec![self.admit(who)] } else { commands }
    }

    /// One or more of a member's leases.
    fn some_held(&mut self, who: usize) -> Vec<Held> {
        let mut held: Vec<Held> = self.leases[who].values().cloned().collect();
        self.random.shuffle(&mut held);
        held.truncate(1 + self.random.usize(..3));
        held
    }

    /// An open event, most often of one's own partitions.
    fn open(&mut self, who: usize, is_wanted: impl Fn(EventId, &Open) -> bool) -> Option<EventId> {
        let anywhere = self.chance(8);
        let is_ours = |open: &Open| anywhere || self.leases[who].contains_key(&open.partition);
        let open = self.model.open.iter().filter(|(id, open)| is_ours(open) && is_wanted(**id, open));
        let open: Vec<EventId> = open.map(|(id, _)| *id).collect();
        self.any(open)
    }

    /// Any event, open or not.
    fn event(&mut self) -> Option<EventId> {
        let events: Vec<EventId> = self.model.events.keys().copied().collect();
        self.any(events)
    }

    fn home(&self, id: EventId) -> Partition {
        let open = self.model.open.get(&id).map(|open| open.partition);
        open.or_else(|| self.model.events.get(&id).map(|kept| kept.partition)).unwrap_or(Partition(0))
    }

    /// The event as a worker knows it.
    fn candidate(&self, id: EventId) -> Option<Candidate> {
        let event = self.model.events.get(&id).map(|kept| &kept.event).or_else(|| self.orphans.get(&id))?;
        let event = Arc::new(Event { partition: self.home(id), ..Event::clone(event) });
        let open = self.model.open.get(&id).map(|open| (open.attempts, open.unknown));
        let last = || self.model.finals.get(&id).map(|last| (last.attempts, 0));
        let (attempts, unknown) = open.or_else(last).unwrap_or_default();
        Some(Candidate { id, attempts, unknown, event })
    }

    /// Now and then, one more or less than there are.
    fn perhaps_wrong(&mut self, attempts: u16, percent: u8) -> u16 {
        match self.chance(percent) {
            true if self.random.bool() => attempts + 1,
            true => attempts.saturating_sub(1),
            false => attempts,
        }
    }

    fn settle(&mut self, who: usize, settled: &mut BTreeSet<EventId>) -> Option<Command> {
        let id = if self.chance(12) { self.event() } else { self.open(who, |_, open| open.state == State::InFlight) }?;
        if !settled.insert(id) {
            return None;
        }
        let mut candidate = self.candidate(id)?;
        candidate.attempts = self.perhaps_wrong(candidate.attempts, 8);
        let (decision, outcome) = self.verdict();
        let then = match self.random.u8(..10) {
            0..=2 => Then::Read,
            3..=7 => self.next_behind(id).map_or(Then::Nothing, Then::Begin),
            _ => Then::Nothing,
        };
        let held = self.held(who, candidate.event.partition);
        let took = Some(Duration::from_millis(3));
        Some(Command::Settle { settlement: Settlement { candidate, held, outcome, decision, took }, then })
    }

    fn verdict(&mut self) -> (Decision, Outcome) {
        let delay = self.any(DELAYS).expect("there are some");
        let answer = |status| Outcome::Response { status, retry_after: None, excerpt: "why".into() };
        let failed = [Outcome::NoResponse(NoResponse::Connect(": refused".into())), answer(503), Outcome::Unknown];
        let failed = self.any(failed).expect("there are some");
        let failure = match failed {
            Outcome::Unknown => Failure::OutcomeUnknown,
            Outcome::Response { status, .. } => Failure::FinalStatus(status),
            _ => Failure::Exhausted,
        };
        match self.random.u8(..100) {
            0..=39 => (Decision::Deliver, answer(204)),
            40..=59 => (Decision::Retry(delay), failed),
            60..=69 => (Decision::Withdraw(delay), Outcome::NotSent(NotSent::NotAllowed)),
            70..=84 => (Decision::Fail(failure), failed),
            _ => (Decision::Hold(failure), failed),
        }
    }

    /// What an entity goes on with when this event is final.
    fn next_behind(&mut self, id: EventId) -> Option<Candidate> {
        let open = self.model.open.get(&id)?;
        let behind = (Bound::Excluded((open.position, id)), Bound::Unbounded);
        let (position, next) = *self.model.lines.get(&open.entity)?.range(behind).next()?;
        let waits_for = self.model.sequences.get(&open.entity).copied();
        let waits_for = if Some(open.position) == waits_for { Some(open.position + 1) } else { waits_for };
        let is_pending = self.model.open.get(&next).is_some_and(|next| next.state == State::Pending);
        if !is_pending || (position >= 0 && Some(position) != waits_for) {
            return None;
        }
        let mut next = self.candidate(next)?;
        next.attempts = self.perhaps_wrong(next.attempts, 8);
        Some(next)
    }

    /// The head of a line begins; or something that can't, for its state or its attempts.
    fn start(&mut self, who: usize) -> Option<Command> {
        let waits = |open: &Open| matches!(open.state, State::Pending | State::RetryWait);
        let is_real = self.chance(80);
        let heads: BTreeSet<EventId> = self.model.open.keys().copied().filter(|id| self.model.is_head(*id)).collect();
        let head = self.open(who, |id, open| waits(open) && heads.contains(&id));
        let id = if is_real { head } else { self.event() }?;
        let mut candidate = self.candidate(id)?;
        if is_real {
            candidate.attempts = self.perhaps_wrong(candidate.attempts, 10);
        } else if self.model.open.get(&id).is_some_and(waits) {
            candidate.attempts += 1;
        }
        let held = self.held(who, candidate.event.partition);
        Some(Command::Start { candidate, held })
    }

    fn read_front(&mut self, who: usize) -> Command {
        let entity = self.any_entity();
        let first = self.model.lines.get(&entity).and_then(|line| line.first());
        let home = first.map_or(Partition(0), |(_, id)| self.home(*id));
        Command::ReadFront { entity, held: self.held(who, home) }
    }

    fn wake(&mut self, who: usize) -> Option<Command> {
        let waits = self.open(who, |_, open| open.state == State::RetryWait);
        let id = if self.chance(20) { self.event() } else { waits }?;
        let attempts = self.candidate(id)?.attempts;
        let token = Token { id, attempts: self.perhaps_wrong(attempts, 15) };
        let held = self.held(who, self.home(id));
        Some(Command::Wake { token, held })
    }

    fn park(&mut self, who: usize) -> Option<Command> {
        let id = if self.chance(5) { NOWHERE } else { self.open(who, |_, _| true)? };
        let held = self.held(who, self.home(id));
        Some(Command::Park { id, held })
    }

    /// An entity with open events, as one that is paused.
    fn paused(&mut self) -> Vec<Entity> {
        let entities: Vec<Entity> = self.model.open.values().map(|open| open.entity.clone()).collect();
        self.any(entities).into_iter().collect()
    }

    fn unpark(&mut self, who: usize) -> Command {
        let which = match self.random.u8(..8) {
            0 => Which::Probe,
            1 => Which::ProbeNewest,
            _ => Which::First(1 + self.random.usize(..4)),
        };
        let but = if self.chance(25) { self.paused() } else { Vec::new() };
        Command::Unpark(Unpark { host: self.any_host(), which, but, held: self.some_held(who) })
    }

    fn operate(&mut self, who: usize) -> Option<Command> {
        let failed: Vec<EventId> = self.model.letters.keys().copied().collect();
        let failed = self.any(failed);
        let id = if self.chance(15) { self.event() } else { failed }?;
        let failed_us = self.model.letters.get(&id).map(|letter| letter.failed_us);
        let failed_us = match self.random.u8(..10) {
            0..=4 => failed_us,
            5..=7 => None,
            _ => Some(failed_us.unwrap_or(0) - 1),
        };
        let verb = if self.random.bool() { Verb::Redrive } else { Verb::Skip };
        let held = self.held(who, self.home(id));
        Some(Command::Operate { ticket: self.ticket(), decided: Decided { id, verb, failed_us }, held })
    }

    /// Suspects as a look has found them; of some, it is another thing that is thought of them.
    fn audit(&mut self, who: usize) -> Option<Command> {
        let held = self.some_held(who);
        let partitions: Vec<Partition> = held.iter().map(Held::partition).collect();
        let mut suspects = self.model.suspects(&partitions);
        for suspect in &mut suspects {
            if self.chance(10) {
                let kinds = [Suspicion::InFlight, Suspicion::Ready, Suspicion::Orphan];
                suspect.suspicion = self.any(kinds).expect("there are some");
            }
        }
        let named = |suspect: &Suspect| (suspect.id, suspect.suspicion as u8);
        suspects.sort_by_key(named);
        suspects.dedup_by_key(|suspect| named(suspect));
        self.random.shuffle(&mut suspects);
        suspects.truncate(6);
        (!suspects.is_empty()).then_some(Command::Audit { suspects, held })
    }
}
