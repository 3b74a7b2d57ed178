//! The world: everything that there is, and what happens next in it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::agenda::{Agenda, Clock};
use super::broker::{Broker, Due, Message};
use super::messages::{Process, Reply, Request};
use super::promises::Promises;
use super::rules::Rule;
use super::scenario::{Act, Mood, Scenario, TROUBLE, below, within};
use super::store::Store;
use super::worker::Worker;
use crate::domain::backoff::{Backoff, Delays};
use crate::domain::event::{EventId, Partition};
use crate::domain::verdict::{Gone, NoResponse, Outcome, Phase, Policy};
use crate::engine::Rules;
use crate::proof::chance::Chance;

/// How long a lease lasts.
pub(super) const LEASE: Duration = Duration::from_secs(8);
/// How long an attempt may take.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);
/// After the trouble, everything becomes final within this.
const COMES_TO_REST: Duration = Duration::from_mins(4);
/// The store's clock at the beginning.
const STORE_CLOCK: Duration = Duration::from_secs(100_000);
/// How long a standby may be behind.
const BEHIND: Duration = Duration::from_secs(1);
/// Slots for workers.
const SLOTS: usize = 4;

/// What may happen.
pub(super) enum Happening {
    /// Something is done to the cluster.
    Act(Act),
    /// A worker starts in a slot, if there is none.
    Start(usize),
    /// A worker's timer is over, or something reaches it.
    At(Process, Timer),
    /// A request reaches the store, which had this generation when it was sent.
    Store(Process, u64, Request),
    /// Messages are back in their queue.
    Requeue(usize, Vec<Message>),
    /// Tokens and decisions are back in theirs.
    RequeueDue(usize, Vec<Due>),
    /// A token or a decision reaches its due queue.
    Due(usize, Due),
    /// A message that comes late.
    Publish { entity: usize, host: usize, sequence: Option<i64> },
    /// An operator looks after what is on hold.
    Tend,
}

/// What happens to a worker.
pub(super) enum Timer {
    /// It looks at the others: its turn of this number.
    Turn(u64),
    /// A turn has taken too long.
    TurnFails(u64),
    /// The store has answered; none if the answer was lost.
    Reply(u64, Box<Reply>),
    /// A consumer looks whether it is alone.
    Poll(Partition, i64),
    /// It is.
    Subscribe(Partition, i64),
    /// There may be messages.
    Take(Partition, i64),
    /// An attempt looks whether the lease covers it.
    Cover(u64),
    /// It puts bytes on the wire.
    Send(u64),
    /// The receiver has answered.
    Answered(u64, Outcome),
    /// The attempt's time is over.
    TooLate(u64),
    /// Newcomers look again.
    Look,
    /// A sweep.
    Sweep,
    /// Retention.
    Expire,
    /// A look at the gates.
    Gates,
    /// The broker has confirmed a letter.
    Confirmed(EventId, i64, Partition, i64),
}

/// A place for a worker.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) worker: Option<Box<Worker>>,
    pub(super) run: u64,
    pub(super) paused_until: Duration,
    pub(super) cut_until: Duration,
    pub(super) loses_commits: u8,
    pub(super) loses_answers: bool,
    /// What starts here is of the older version.
    pub(super) is_older: bool,
}

/// Everything.
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) now: Duration,
    pub(super) agenda: Agenda<Happening>,
    pub(super) chance: Chance,
    pub(super) store: Store,
    /// The store as it was a little earlier.
    pub(super) earlier: VecDeque<(Duration, Store)>,
    pub(super) generation: u64,
    pub(super) store_down_until: Duration,
    /// What was added to the store's clock.
    pub(super) clock_set: i64,
    pub(super) broker: Broker,
    pub(super) moods: Vec<(Mood, Duration)>,
    pub(super) slots: Vec<Slot>,
    pub(super) promises: Promises,
    pub(super) expires_after: Option<Duration>,
    pub(super) steps: u64,
}

impl World {
    pub(super) fn new(scenario: Scenario) -> Self {
        let mut store = Store::new(scenario.partitions.into(), scenario.first);
        store.without = scenario.without;
        let mut world = Self {
            now: Duration::ZERO,
            agenda: Agenda::default(),
            chance: Chance::new(scenario.seed ^ 0x5eed),
            store,
            earlier: VecDeque::new(),
            generation: 0,
            store_down_until: Duration::ZERO,
            clock_set: 0,
            broker: Broker::new(scenario.partitions),
            moods: vec![(Mood::Well, Duration::ZERO); scenario.hosts],
            slots: (0..SLOTS).map(|_| Slot { is_older: scenario.is_updated(), ..Slot::default() }).collect(),
            promises: Promises::new(&scenario),
            expires_after: None,
            steps: 0,
            scenario,
        };
        for slot in 0..world.scenario.workers {
            let at = within(&mut world.chance, Duration::ZERO, Duration::from_millis(300));
            world.agenda.enter(at, Happening::Start(slot));
        }
        for step in world.scenario.steps.clone() {
            world.agenda.enter(step.at, Happening::Act(step.act));
        }
        world.agenda.enter(TROUBLE + Duration::from_secs(20), Happening::Tend);
        world
    }

    /// Lets everything happen until all is at rest. The first promise that is broken ends it.
    ///
    /// # Errors
    /// Which promise was broken, when and how.
    pub(super) fn run(&mut self) -> Result<(), String> {
        let mut next_look = TROUBLE;
        while let Some((at, what)) = self.agenda.next() {
            self.now = at;
            self.steps += 1;
            self.happen(what);
            if let Some(broken) = self.promises.broken.take() {
                return Err(format!("after {:.3} s: {broken}", at.as_secs_f64()));
            }
            if at >= next_look {
                next_look = at + Duration::from_secs(1);
                match self.what_is_open() {
                    None => return Ok(()),
                    Some(open) if at > TROUBLE + COMES_TO_REST => return Err(format!("nothing goes on: {open}")),
                    Some(_) => {}
                }
            }
        }
        Err("nothing happens any more".into())
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Act(act) => self.act(&act),
            Happening::Start(slot) => self.start(slot),
            Happening::At(process, timer) => self.reach(process, timer),
            Happening::Store(process, generation, request) => self.serve(process, generation, request),
            Happening::Requeue(queue, messages) => {
                self.broker.queues[queue].take_back(messages);
                self.wake_consumers();
            }
            Happening::RequeueDue(queue, messages) => {
                self.broker.due[queue].take_back(messages);
                self.wake_consumers();
            }
            Happening::Due(queue, due) => {
                self.broker.due[queue].ready.push_back(due);
                self.wake_consumers();
            }
            Happening::Publish { entity, host, sequence } => self.publish(entity, host, sequence),
            Happening::Tend => self.tend(),
        }
    }

    /// Something happens to a worker, unless it is dead. One that stands still gets to it later.
    fn reach(&mut self, process: Process, timer: Timer) {
        let slot = &mut self.slots[process.0];
        if slot.run != process.1 {
            return;
        }
        if slot.paused_until > self.now {
            let until = slot.paused_until;
            self.agenda.enter(until, Happening::At(process, timer));
            return;
        }
        let Some(mut worker) = slot.worker.take() else { return };
        self.go_on(&mut worker, timer);
        self.tend_consumers(&mut worker);
        self.tend_closing(&mut worker);
        let has_left = worker.has_drained() && worker.membership.is_leaving() && worker.owned.is_empty();
        if has_left {
            self.store.leave(worker.id);
            self.close_consumers(&mut worker, |_| true);
            self.slots[process.0].run += 1;
        } else {
            self.slots[process.0].worker = Some(worker);
        }
    }

    fn go_on(&mut self, worker: &mut Worker, timer: Timer) {
        match timer {
            Timer::Turn(number) if number == worker.turns => self.begin_turn(worker),
            Timer::TurnFails(number) if number == worker.turns => self.fail_turn(worker),
            Timer::Turn(_) | Timer::TurnFails(_) => {}
            Timer::Reply(generation, reply) => self.answered(worker, generation, *reply),
            Timer::Poll(partition, epoch) => self.poll(worker, partition, epoch),
            Timer::Subscribe(partition, epoch) => self.subscribe(worker, partition, epoch),
            Timer::Take(partition, epoch) => self.take(worker, partition, epoch),
            Timer::Cover(number) => self.cover(worker, number),
            Timer::Send(number) => self.send(worker, number),
            Timer::Answered(number, outcome) => self.end(worker, number, Some(outcome)),
            Timer::TooLate(number) => {
                let late = Outcome::NoResponse(NoResponse::Late(TIMEOUT, Phase::Waiting));
                self.end(worker, number, Some(late));
            }
            Timer::Look => self.look(worker),
            Timer::Sweep => self.sweep(worker),
            Timer::Expire => self.expire(worker),
            Timer::Gates => self.look_at_gates(worker),
            Timer::Confirmed(id, failed_us, partition, epoch) => {
                self.confirmed(worker, id, failed_us, partition, epoch);
            }
        }
    }

    /// A worker starts.
    pub(super) fn start(&mut self, slot: usize) {
        if self.slots[slot].worker.is_some() {
            return;
        }
        self.slots[slot].run += 1;
        let run = self.slots[slot].run;
        let id = Uuid::from_u128(u128::from(run) << 16 | slot as u128);
        let fast_ppm = i64::try_from(below(&mut self.chance, 20_000)).unwrap_or(0) - 10_000;
        let clock = Clock { fast_ppm, since: self.now, stood_still: Duration::ZERO };
        let backoff =
            Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(8), factor: 2.0, jitter: 0.1 };
        let policy = Policy {
            max_attempts: self.scenario.max_attempts,
            max_unknown: 6,
            delays: Delays::Growing(backoff),
            retry_after_max: backoff.max,
            final_statuses: [410].into(),
            success_statuses: BTreeSet::new(),
            hold: self.scenario.hold,
            gone: Gone::Fail,
        };
        let is_older = self.slots[slot].is_older;
        let destinations = Arc::new(self.scenario.destinations(policy, TIMEOUT, is_older));
        let (host_cap, seed) = (self.scenario.cap.into(), self.chance.below(u64::MAX));
        let rules = Rules { destinations, host_cap, seed, most_begun: 64, bodies: 4_096 };
        let worker = Box::new(Worker::new(slot, run, id, clock, (LEASE, rules)));
        self.slots[slot].worker = Some(worker);
        let process = (slot, run);
        self.agenda.enter(self.now, Happening::At(process, Timer::Turn(0)));
        self.agenda.enter(self.now + Duration::from_secs(1), Happening::At(process, Timer::Sweep));
        self.agenda.enter(self.now + Duration::from_secs(3), Happening::At(process, Timer::Expire));
        if self.scenario.has_gates() && !is_older {
            self.agenda.enter(self.now + Duration::from_millis(500), Happening::At(process, Timer::Gates));
        }
    }

    /// Something happens to a worker after a time of the world.
    pub(super) fn after(&mut self, worker: &Worker, delay: Duration, timer: Timer) {
        self.agenda.enter(self.now + delay, Happening::At(worker.who(), timer));
    }

    /// Something happens to a worker after a time of its own clock.
    pub(super) fn after_own(&mut self, worker: &Worker, delay: Duration, timer: Timer) {
        self.after(worker, worker.clock.takes(delay), timer);
    }

    /// A time by chance.
    pub(super) fn some(&mut self, from_micros: u64, to_micros: u64) -> Duration {
        within(&mut self.chance, Duration::from_micros(from_micros), Duration::from_micros(to_micros))
    }

    /// What the store's clock shows.
    pub(super) fn store_now(&self) -> Duration {
        let shown = STORE_CLOCK + self.now;
        let set = Duration::from_millis(self.clock_set.unsigned_abs());
        if self.clock_set < 0 { shown.saturating_sub(set) } else { shown + set }
    }

    /// Whether a rule holds.
    pub(super) fn keeps(&self, rule: Rule) -> bool {
        self.scenario.keeps(rule)
    }

    /// Before the store changes: a standby may be this much behind.
    pub(super) fn remember(&mut self) {
        if !self.scenario.may_forget() {
            return;
        }
        self.earlier.push_back((self.now, self.store.clone()));
        while self.earlier.front().is_some_and(|(at, _)| *at + BEHIND < self.now) && self.earlier.len() > 1 {
            self.earlier.pop_front();
        }
    }

    /// Looks at everything that has a worker out of its hands.
    pub(super) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.slots.iter().filter_map(|slot| slot.worker.as_deref())
    }
}
