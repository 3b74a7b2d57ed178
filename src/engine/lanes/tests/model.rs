//! Order, shown for any history: arrivals, attempts, failures, parking, gaps and restarts in any order.
//!
//! [`World`] is a worker without its I/O: the store is a few lists, and a command to it commits at any later step, as
//! the one writer's transactions do. Results are seen in the order of the commits. Time is in the order of the steps
//! alone: a wake-up may come at any step, and so may an outcome.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::domain::admission::{Admission, FirstSequence, Recorded, admit};
use crate::domain::event::Digest;
use crate::domain::lifecycle::{Change, End, State};
use crate::domain::poison::Poison;
use store::{Row, Store, newcomer, place};

/// The entities: two of partition 0, two of partition 1.
const ENTITIES: [&str; 4] = ["a0", "a1", "b2", "b3"];

mod store;

/// One step of a history. A `usize` chooses among those that the step can be done to; without any, nothing happens.
#[derive(Clone, Debug)]
enum Step {
    /// Messages of one entity, each a number and a size, are recorded by one transaction; a head may be parked at once, or
    /// have its first attempt recorded with it.
    Arrive { entity: usize, messages: Vec<(Option<i64>, usize)>, head: Head },
    /// A key comes again, with the same content or not.
    ComeAgain { which: usize, same: bool },
    /// The head of a ready lane is to be sent.
    Start(usize),
    /// A ready lane's host is slow: the head waits in the store.
    Park(usize),
    /// A host has room again: so many parked events are read.
    Unpark(usize),
    /// An attempt that was sent has an outcome; what comes next in its line may be asked for with its end.
    Outcome { which: usize, change: Change, goes_on: bool },
    /// A wake-up arrives for an event that waits or has waited: doubles and late ones too.
    Wake(usize),
    /// The store commits a command; it reads at most `limit` events of a line.
    Commit { which: usize, limit: usize },
    /// A partition has another owner, as its lease was lost: what was in memory and on its way is lost.
    Restart(Partition),
    /// The worker crashes while the store commits a command: right before, or right after, when nobody hears of it.
    Crash { which: usize, committed: bool },
    /// The receiver has answered, and the worker crashes before it asks for the record.
    DropResponse(usize),
}

/// What becomes of an arrival that nothing has to precede.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    /// It waits for its host.
    Ready,
    /// Its first attempt is recorded with it.
    Begun,
    /// It waits in the store.
    Parked,
}

/// A step is told from one number, because proptest takes long to make and shrink anything else.
fn step(mut bits: u64) -> Step {
    let mut draw = |choices: u64| {
        let drawn = bits % choices;
        bits /= choices;
        usize::try_from(drawn).unwrap()
    };
    match draw(64) {
        0..22 => Step::Commit { which: draw(64), limit: 1 + draw(5) },
        22..34 => Step::Start(draw(64)),
        34..44 => {
            let change = [
                Change::End(End::Deliver),
                Change::End(End::Deliver),
                Change::End(End::Deliver),
                Change::End(End::Retry),
                Change::End(End::Retry),
                Change::End(End::Fail),
            ];
            Step::Outcome { which: draw(64), change: change[draw(6)], goes_on: draw(3) > 0 }
        }
        44..54 => {
            let (entity, head) =
                (draw(4), [Head::Ready, Head::Begun, Head::Parked][[0, 0, 0, 0, 1, 1, 1, 1, 1, 2][draw(10)]]);
            let messages = (0..=draw(4)).map(|_| (number(draw(16)), SIZES[draw(8)])).collect();
            Step::Arrive { entity, messages, head }
        }
        54..58 => Step::Wake(draw(64)),
        58 | 59 => Step::Park(draw(64)),
        60 => Step::Unpark(1 + draw(3)),
        61 => Step::ComeAgain { which: draw(64), same: draw(2) == 0 },
        62 => match draw(3) {
            0 => Step::DropResponse(draw(64)),
            crash => Step::Crash { which: draw(64), committed: crash == 1 },
        },
        _ => Step::Restart(Partition(i32::from(draw(2) == 1))),
    }
}

/// None, or 0 to 9.
fn number(drawn: usize) -> Option<i64> {
    drawn.checked_sub(6).map(|number| i64::try_from(number).unwrap())
}

const SIZES: [usize; 8] = [0, 0, 0, 0, 0, LINE_BYTES / 3, LINE_BYTES / 2, 2 * LINE_BYTES];

/// Many times the rounds that the longest history takes to come to its end.
const MOST_ROUNDS: usize = 1_000;

/// What the store is asked to do.
#[derive(Debug)]
enum Command {
    Start(Candidate),
    Settle(Candidate, Change, Then),
    ReadFront(Entity),
    Wake(EventId, u16),
    Park(EventId),
}

struct World {
    first: FirstSequence,
    store: Store,
    lanes: Lanes,
    /// Lanes whose head waits for its host.
    ready: Vec<Entity>,
    /// Asked of the store and not committed yet.
    commands: Vec<Command>,
    /// Attempts that are recorded and sent.
    sent: Vec<Candidate>,
    /// Wake-ups at the broker: none is ever taken out, so each may come late and more than once.
    tokens: Vec<(EventId, u16)>,
}

impl World {
    fn new(first: FirstSequence) -> Self {
        let (store, lanes) = (Store::default(), Lanes::default());
        let (ready, commands, sent, tokens) = Default::default();
        Self { first, store, lanes, ready, commands, sent, tokens }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Arrive { entity, messages, head } => self.arrive(&ENTITIES[*entity].into(), messages, *head),
            Step::ComeAgain { which, same } => self.come_again(*which, *same),
            Step::Start(which) => {
                if let Some(entity) = take(&mut self.ready, *which) {
                    self.ask_to_start(&entity);
                }
            }
            Step::Park(which) => {
                if let Some(entity) = take(&mut self.ready, *which) {
                    let head = self.lanes.head(&entity).expect("a ready lane has a head").id;
                    self.lanes.forget(&entity);
                    self.commands.push(Command::Park(head));
                }
            }
            Step::Unpark(limit) => self.unpark(*limit),
            Step::Outcome { which, change, goes_on } => {
                if let Some(candidate) = take(&mut self.sent, *which) {
                    self.ask_to_settle(candidate, *change, *goes_on);
                }
            }
            Step::Wake(which) => {
                if !self.tokens.is_empty() {
                    let (id, attempts) = self.tokens[which % self.tokens.len()];
                    self.commands.push(Command::Wake(id, attempts));
                }
            }
            Step::Commit { which, limit } => {
                if let Some(command) = take(&mut self.commands, *which) {
                    self.commit(command, *limit);
                }
            }
            Step::Restart(partition) => self.restart(*partition),
            Step::Crash { which, committed } => {
                if let Some(command) = take(&mut self.commands, *which) {
                    let partition = self.partition(&command);
                    if *committed {
                        self.commit(command, LINE_EVENTS);
                    }
                    self.restart(partition);
                }
            }
            Step::DropResponse(which) => {
                if let Some(candidate) = take(&mut self.sent, *which) {
                    self.restart(candidate.event.partition);
                }
            }
        }
        self.check_bounds();
    }

    fn arrive(&mut self, entity: &Entity, messages: &[(Option<i64>, usize)], of_head: Head) {
        let mut facts = self.store.facts(entity, messages);
        for (sequence, bytes) in messages {
            let number = self.store.keys.len();
            let digest = digest(number, true);
            let id = EventId(i64::try_from(number).unwrap());
            let candidate = candidate(entity.as_str(), id.0, *sequence, *bytes);
            let sequence = sequence.map(Sequence);
            let expected = self.expected(entity, sequence, id);
            let admission = admit(&mut facts, None, newcomer(entity, sequence, digest), self.first);
            assert_eq!(admission, expected, "{entity} {sequence:?}");
            let Admission::Join { head, others_open, home: _ } = admission else { continue };
            self.store.keys.push((entity.clone(), sequence, digest));
            if let Some(next) = facts.next {
                self.store.next.insert(entity.clone(), next);
            }
            let parked = head && of_head == Head::Parked;
            let begun = head && of_head == Head::Begun;
            let mut row = Row { candidate: candidate.clone(), state: State::Pending, parked };
            if begun {
                row.apply(Change::Start);
                row.candidate.attempts += 1;
            }
            let recorded = row.read();
            self.store.open.entry(entity.clone()).or_default().insert((sequence, id), row);
            if parked {
                // Unpark finds it.
            } else if !head {
                self.lanes.follower_admitted(candidate);
            } else if begun {
                assert!(self.lanes.head_begun(recorded.clone(), others_open, 0), "nobody is before it");
                self.sent.push(recorded);
            } else if self.lanes.head_admitted(candidate, others_open, 0) {
                self.ready.push(entity.clone());
            }
        }
    }

    /// What admission has to answer, told from the store as it is, not from the facts of a transaction.
    fn expected(&self, entity: &Entity, sequence: Option<Sequence>, id: EventId) -> Admission {
        let line = self.store.open.get(entity);
        let start = if self.first == FirstSequence::One { Some(Sequence(1)) } else { sequence };
        let next = self.store.next.get(entity).copied();
        match (next.or(start), sequence) {
            (_, None) if next.is_some() => return Admission::Reject(Poison::Unnumbered),
            (Some(next), Some(sequence)) if sequence < next => {
                return Admission::Reject(Poison::SequencePassed { sequence, next });
            }
            (_, Some(sequence)) if line.is_some_and(|line| line.keys().any(|place| place.0 == Some(sequence))) => {
                return Admission::Reject(Poison::SequenceTaken(sequence));
            }
            _ => {}
        }
        let starts = next.is_some() || sequence.is_none() || sequence == start;
        let head = starts && self.store.is_next(entity, (sequence, id));
        Admission::Join { head, others_open: line.is_some_and(|line| !line.is_empty()), home: partition_of(entity) }
    }

    fn come_again(&mut self, which: usize, same: bool) {
        if self.store.keys.is_empty() {
            return;
        }
        let number = which % self.store.keys.len();
        let ((entity, sequence, earlier), now) = (self.store.keys[number].clone(), digest(number, same));
        let mut facts = self.store.facts(&entity, &[]);
        let recorded = Some(Recorded { digest: earlier, has_failed: false });
        let admission = admit(&mut facts, recorded, newcomer(&entity, sequence, now), self.first);
        let expected = if same { Admission::Duplicate } else { Admission::Reject(Poison::Conflict { earlier, now }) };
        assert_eq!(admission, expected);
    }

    fn ask_to_start(&mut self, entity: &Entity) {
        let head = self.lanes.start(entity).expect("a ready lane can start");
        self.commands.push(Command::Start(head));
    }

    fn ask_to_settle(&mut self, candidate: Candidate, change: Change, goes_on: bool) {
        let goes_on = goes_on && change != Change::End(End::Retry);
        let then = if goes_on { self.lanes.next(&candidate.event.entity, candidate.id) } else { Then::Nothing };
        self.commands.push(Command::Settle(candidate, change, then));
    }

    fn woken(&mut self, candidate: Candidate) {
        let entity = candidate.event.entity.clone();
        if self.lanes.woken(candidate) {
            self.ready.push(entity);
        }
    }

    fn unpark(&mut self, limit: usize) {
        let mut read = Vec::new();
        for row in self.store.rows_mut().filter(|row| row.parked).take(limit) {
            row.parked = false;
            read.push(row.read());
        }
        for candidate in read {
            self.woken(candidate);
        }
    }

    fn commit(&mut self, command: Command, limit: usize) {
        match command {
            Command::Start(candidate) => self.commit_start(&candidate),
            Command::Settle(candidate, change, then) => self.commit_settle(&candidate, change, &then, limit),
            Command::ReadFront(entity) => self.commit_read(entity, limit),
            Command::Wake(id, attempts) => {
                let due = |row: &&mut Row| row.state == State::RetryWait && row.candidate.attempts == attempts;
                if let Some(row) = self.store.row(id).filter(due).filter(|row| !row.parked) {
                    let candidate = row.read();
                    self.woken(candidate);
                }
            }
            Command::Park(id) => {
                let waits = |row: &&mut Row| matches!(row.state, State::Pending | State::RetryWait);
                if let Some(row) = self.store.row(id).filter(waits) {
                    row.parked = true;
                }
            }
        }
    }

    fn commit_start(&mut self, candidate: &Candidate) {
        let entity = &candidate.event.entity;
        assert!(self.store.is_next(entity, place(candidate)), "{candidate:?} started before its turn");
        let row = self.store.row(candidate.id).expect("only open events start");
        assert_eq!(row.candidate.attempts, candidate.attempts, "attempts are counted from the store's");
        row.apply(Change::Start);
        row.parked = false;
        row.candidate.attempts += 1;
        let started = row.read();
        self.sent.push(started);
        let in_flight = self.store.open[entity].values().filter(|row| row.state == State::InFlight).count();
        assert_eq!(in_flight, 1, "attempts of {entity} at a time");
    }

    fn commit_read(&mut self, entity: Entity, limit: usize) {
        let (line, more) = self.store.read_front(&entity, limit);
        if self.lanes.loaded(&entity, line, more) {
            self.ready.push(entity);
        }
    }

    fn commit_settle(&mut self, candidate: &Candidate, change: Change, then: &Then, limit: usize) {
        let entity = candidate.event.entity.clone();
        let row = self.store.row(candidate.id).expect("only open events are settled");
        row.apply(change);
        let state = row.state;
        if !state.is_final() {
            self.tokens.push((candidate.id, candidate.attempts));
            self.lanes.forget(&entity);
            return;
        }
        assert_eq!(self.store.finals.insert(candidate.id, state), None, "final twice");
        self.store.open.get_mut(&entity).unwrap().remove(&place(candidate));
        if let Some(sequence) = candidate.event.sequence {
            self.store.next.insert(entity.clone(), sequence.next());
        }
        match (self.lanes.finished(&entity, candidate.id), then) {
            (After::Send, Then::Begin(next)) => {
                let head = self.lanes.start(&entity).expect("a new head can start");
                assert_eq!(head.id, next.id, "what was asked for is what comes next");
                self.commit_start(next);
            }
            (After::Send, Then::Nothing) => self.ready.push(entity),
            (After::Load, Then::Read) => self.commit_read(entity, limit),
            (After::Load, Then::Nothing) => self.commands.push(Command::ReadFront(entity)),
            (After::Gone, Then::Nothing) => {}
            (after, then) => panic!("{then:?} was asked for, and there is {after:?}"),
        }
    }

    /// Whose owner has asked for it.
    fn partition(&self, command: &Command) -> Partition {
        match command {
            Command::Start(candidate) | Command::Settle(candidate, ..) => candidate.event.partition,
            Command::ReadFront(entity) => partition_of(entity),
            Command::Wake(id, _) | Command::Park(id) => {
                partition_of(&self.store.keys[usize::try_from(id.0).unwrap()].0)
            }
        }
    }

    /// What is lost with an owner, and what the next one does: heads that nobody waits with are parked, and attempts
    /// that were left in flight are settled as unknown.
    fn restart(&mut self, partition: Partition) {
        let of_it = |entity: &Entity| partition_of(entity) == partition;
        self.lanes.forget_partition(partition);
        self.ready.retain(|entity| !of_it(entity));
        self.sent.retain(|candidate| candidate.event.partition != partition);
        let commands = std::mem::take(&mut self.commands);
        self.commands = commands.into_iter().filter(|command| self.partition(command) != partition).collect();
        let mut left = Vec::new();
        for entity in ENTITIES.map(Entity::from).iter().filter(|entity| of_it(entity)) {
            let Some((place, _)) = self.store.open.get(entity).and_then(BTreeMap::first_key_value) else { continue };
            let (place, is_next) = (*place, self.store.is_next(entity, *place));
            let Some(row) = self.store.row(place.1) else { continue };
            row.parked |= is_next && row.state == State::Pending;
            if row.state == State::InFlight {
                left.push(row.read());
            }
        }
        for candidate in left {
            self.take_over(candidate);
        }
    }

    fn take_over(&mut self, candidate: Candidate) {
        let entity = candidate.event.entity.clone();
        assert!(self.lanes.woken(candidate), "all lanes are gone");
        let candidate = self.lanes.start(&entity).expect("a new lane can start");
        let change = if candidate.attempts < 2 { Change::End(End::Retry) } else { Change::End(End::Fail) };
        self.ask_to_settle(candidate, change, true);
    }

    /// Brings the history to its end: gaps are filled, everything succeeds, and nothing is lost by a restart any more.
    fn bring_to_the_end(&mut self) {
        for (entity, next) in self.store.next.clone() {
            let line = &self.store.open[&entity];
            let present: BTreeSet<i64> = line.keys().filter_map(|place| place.0).map(|sequence| sequence.0).collect();
            let last = present.last().copied().unwrap_or(next.0);
            let missing = (next.0..last).filter(|number| !present.contains(number));
            let missing: Vec<_> = missing.map(|number| (Some(number), 0)).collect();
            self.arrive(&entity, &missing, Head::Ready);
        }
        let mut rounds = 0..MOST_ROUNDS;
        while self.go_on() {
            self.check_bounds();
            assert!(rounds.next().is_some(), "it goes on without an end");
        }
        let stuck: Vec<_> = self.store.rows().map(|row| (&row.candidate, row.state)).collect();
        assert!(stuck.is_empty(), "waiting for nothing: {stuck:?}");
        let known: Vec<_> = self.store.finals.keys().map(|id| id.0).collect();
        assert_eq!(known, (0..).take(self.store.keys.len()).collect::<Vec<_>>(), "every event that joined is final");
        assert!(self.lanes.is_empty() && self.ready.is_empty());
    }

    /// Does everything that can be done now; false if that was nothing.
    fn go_on(&mut self) -> bool {
        let ready = std::mem::take(&mut self.ready);
        for entity in &ready {
            self.ask_to_start(entity);
        }
        let sent = std::mem::take(&mut self.sent);
        for candidate in sent {
            self.ask_to_settle(candidate, Change::End(End::Deliver), true);
        }
        let waits = self.store.rows().filter(|row| row.state == State::RetryWait && !row.parked);
        // An entity at work is left alone, as no more than one wake-up comes for each attempt.
        let due: Vec<_> = waits
            .filter(|row| self.lanes.head(&row.candidate.event.entity).is_none())
            .map(|row| Command::Wake(row.candidate.id, row.candidate.attempts))
            .collect();
        self.commands.extend(due);
        if self.commands.is_empty() && !self.store.rows().any(|row| row.parked) {
            return false;
        }
        for command in std::mem::take(&mut self.commands) {
            self.commit(command, 4);
        }
        self.unpark(8);
        true
    }

    fn check_bounds(&self) {
        for lane in self.lanes.lanes.values() {
            let bytes: usize = lane.behind.iter().map(|candidate| candidate.event.body.len()).sum();
            assert_eq!(bytes, lane.behind_bytes);
            assert!(lane.behind.len() <= LINE_EVENTS && bytes <= LINE_BYTES, "a lane keeps a few events");
        }
    }
}

fn take<T>(list: &mut Vec<T>, which: usize) -> Option<T> {
    if list.is_empty() { None } else { Some(list.remove(which % list.len())) }
}

fn partition_of(entity: &Entity) -> Partition {
    Partition(i32::from(entity.as_str().starts_with('b')))
}

fn digest(number: usize, same: bool) -> Digest {
    let mut digest = [0; 32];
    digest[..8].copy_from_slice(&number.to_be_bytes());
    digest[31] = u8::from(!same);
    Digest(digest)
}

fn live_through(first: FirstSequence, steps: &[Step]) {
    let mut world = World::new(first);
    for step in steps {
        world.step(step);
    }
    world.bring_to_the_end();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn order_is_kept_and_nothing_is_stuck_whatever_happens(
        any_first: bool,
        steps in prop::collection::vec(any::<u64>().prop_map(step), 1..150),
    ) {
        live_through(if any_first { FirstSequence::Any } else { FirstSequence::One }, &steps);
    }
}
