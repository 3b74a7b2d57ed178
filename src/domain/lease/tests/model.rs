//! The protocol of leases, searched: two members, two partitions, and every order of what they, the database, the network
//! and the clocks can do, up to a moment well after the first lease has ended.
//!
//! A member asks the database over two connections, one for its leases and one for its writes; a request may be carried
//! out, and its answer heard, at any later time, or never. Nothing says that a member ever acts again: a pause and a crash
//! are histories in which one does nothing for a while, or to the end, while what it had asked is still carried out.
//! Clocks run 1 % slow or fast, the database's among them. Any member may ask for any partition at any time: whose it should
//! be is of no account here. Attempts are made on the first partition alone; the second one's leases share its requests and
//! renewals.
//!
//! Time goes from one moment that matters to the next.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};

use super::*;

/// The length of a lease and of an attempt, in units of the model.
const LEASE: u64 = 10_000;
const ATTEMPT: u64 = 4_000;
/// The partition that attempts are made on.
const ATTEMPTS_ON: usize = 0;
/// Members ask for renewals at these moments, or let them pass.
const RENEW_EVERY: u64 = LEASE / 2;
/// The search ends here.
const HORIZON: u64 = 11_000;
/// The database's clock is 1 % fast.
const DATABASE: i64 = 1;

/// The rules that can be left out, to see that the search finds what they are for.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each of them is a rule, left out or not")]
struct Rules {
    fence: bool,
    deadline: bool,
    drift: bool,
    look_before_sending: bool,
}

const ALL: Rules = Rules { fence: true, deadline: true, drift: true, look_before_sending: true };

/// A clock that is so many percent fast, at a moment.
fn clock(percent: i64, moment: u64) -> u64 {
    moment * u64::try_from(100 + percent).unwrap() / 100
}

/// The first moment at which the clock shows `time`.
fn moment(percent: i64, time: u64) -> u64 {
    (time * 100).div_ceil(u64::try_from(100 + percent).unwrap())
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Row {
    owner: Option<usize>,
    epoch: u8,
    /// By the database's clock.
    expires: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Answer {
    /// The epochs of what the member still owns.
    Renewed(u64, [Option<u8>; 2]),
    Claimed(usize, u8),
}

/// A connection with at most one request under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Line<Q, A> {
    Idle,
    Asked(Q),
    Answered(A),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Attempt {
    None,
    /// Recorded under an epoch, and waits until the lease covers it.
    Recorded(u8),
    /// The lease covers it up to this deadline of the member's clock; nothing is sent yet.
    Covered(u64),
    /// On the wire.
    Sent(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Member {
    counts_until: u64,
    /// The epoch under which it believes to own each partition.
    held: [Option<u8>; 2],
    /// It lets nothing new begin on the partition with the attempts.
    closed: bool,
    /// Renewals, with the member's own time at which it asked; claims are carried out when they are asked, which stands for
    /// all later moments.
    leases: Line<u64, Answer>,
    /// The start of an attempt: its epoch, and whether it was recorded.
    writes: Line<u8, (u8, bool)>,
    attempt: Attempt,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct World {
    now: u64,
    rows: [Row; 2],
    members: [Member; 2],
    /// A write changed something under an epoch that was over.
    stale_write: bool,
}

struct Search {
    rules: Rules,
    /// How fast the members' clocks are, in percent.
    drift: [i64; 2],
}

impl Search {
    fn local(&self, world: &World, me: usize) -> u64 {
        clock(self.drift[me], world.now)
    }

    /// Everything that can happen next.
    fn next(&self, world: &World) -> Vec<World> {
        let mut next = Vec::new();
        for me in 0..2 {
            Self::database_renews(world, me, &mut next);
            self.database_writes(world, me, &mut next);
            self.asks(world, me, &mut next);
            self.hears(world, me, &mut next);
            self.attempts(world, me, &mut next);
        }
        next.extend(self.later(world));
        next
    }

    fn asks(&self, world: &World, me: usize, next: &mut Vec<World>) {
        let member = &world.members[me];
        let mut happens = |change: &dyn Fn(&mut World)| {
            let mut world = *world;
            change(&mut world);
            next.push(world);
        };
        let (asked, time) = (self.local(world, me), clock(DATABASE, world.now));
        if member.leases == Line::Idle && world.now.is_multiple_of(RENEW_EVERY) && world.now > 0 {
            happens(&|world| world.members[me].leases = Line::Asked(asked));
        }
        for (partition, row) in world.rows.iter().enumerate() {
            let free = row.owner.is_none() || row.expires <= time;
            if free && member.leases == Line::Idle && member.held[partition].is_none() {
                let epoch = row.epoch + 1;
                happens(&|world| {
                    world.rows[partition] = Row { owner: Some(me), epoch, expires: time + LEASE };
                    world.members[me].leases = Line::Answered(Answer::Claimed(partition, epoch));
                });
            }
        }
        if let Some(epoch) = member.held[ATTEMPTS_ON] {
            if !member.closed {
                happens(&|world| world.members[me].closed = true);
            } else if is_quiet(member) {
                happens(&|world| {
                    let row = &mut world.rows[ATTEMPTS_ON];
                    if is_current((row.owner.as_ref(), row.epoch.into()), (&me, epoch.into())) {
                        row.owner = None;
                    }
                    world.members[me].lose(ATTEMPTS_ON);
                });
            }
            if !member.closed && member.writes == Line::Idle && member.attempt == Attempt::None {
                happens(&|world| world.members[me].writes = Line::Asked(epoch));
            }
        }
    }

    /// The database carries out what was asked, whether or not anybody waits for the answer.
    fn database_renews(world: &World, me: usize, next: &mut Vec<World>) {
        let Line::Asked(asked) = world.members[me].leases else { return };
        let mut world = *world;
        let mut held = [None; 2];
        for (row, held) in world.rows.iter_mut().zip(&mut held).filter(|(row, _)| row.owner == Some(me)) {
            row.expires = clock(DATABASE, world.now) + LEASE;
            *held = Some(row.epoch);
        }
        world.members[me].leases = Line::Answered(Answer::Renewed(asked, held));
        next.push(world);
    }

    fn database_writes(&self, world: &World, me: usize, next: &mut Vec<World>) {
        let Line::Asked(epoch) = world.members[me].writes else { return };
        let mut world = *world;
        let row = &world.rows[ATTEMPTS_ON];
        let current = is_current((row.owner.as_ref(), row.epoch.into()), (&me, epoch.into()));
        let taken = current || !self.rules.fence;
        world.stale_write |= taken && !current;
        world.members[me].writes = Line::Answered((epoch, taken));
        next.push(world);
    }

    fn hears(&self, world: &World, me: usize, next: &mut Vec<World>) {
        if let Line::Answered(answer) = world.members[me].leases {
            let mut world = *world;
            let member = &mut world.members[me];
            member.leases = Line::Idle;
            match answer {
                Answer::Renewed(asked, held) => {
                    for (partition, held) in held.into_iter().enumerate() {
                        if member.held[partition] != held {
                            member.lose(partition);
                        }
                    }
                    member.counts_until = self.counted(asked);
                }
                Answer::Claimed(partition, epoch) => {
                    member.lose(partition);
                    member.held[partition] = Some(epoch);
                }
            }
            next.push(world);
        }
        if let Line::Answered((epoch, taken)) = world.members[me].writes {
            let mut world = *world;
            let member = &mut world.members[me];
            member.writes = Line::Idle;
            if taken {
                member.attempt = Attempt::Recorded(epoch);
            } else if member.held[ATTEMPTS_ON] == Some(epoch) {
                member.lose(ATTEMPTS_ON);
            }
            next.push(world);
        }
    }

    fn attempts(&self, world: &World, me: usize, next: &mut Vec<World>) {
        let (local, member) = (self.local(world, me), &world.members[me]);
        let becomes = match member.attempt {
            Attempt::None => return,
            Attempt::Recorded(epoch) if member.held[ATTEMPTS_ON] != Some(epoch) => Attempt::None,
            Attempt::Recorded(_) => {
                let deadline = local + ATTEMPT;
                if self.rules.deadline && !may_begin(duration(deadline), duration(member.counts_until)) {
                    return;
                }
                Attempt::Covered(deadline)
            }
            Attempt::Covered(deadline) if may_send(duration(local), duration(deadline)) => Attempt::Sent(deadline),
            Attempt::Covered(_) if self.rules.look_before_sending => Attempt::None,
            Attempt::Covered(_) => Attempt::Sent(local + ATTEMPT),
            Attempt::Sent(_) => Attempt::None,
        };
        let mut world = *world;
        world.members[me].attempt = becomes;
        next.push(world);
    }

    /// The next moment that matters: the first at which a lease is over for the database, the last at which an attempt
    /// can begin or is not over, and those of the renewals.
    fn later(&self, world: &World) -> Option<World> {
        let mut moments = vec![world.now - world.now % RENEW_EVERY + RENEW_EVERY, HORIZON];
        moments.extend(world.rows.iter().filter(|row| row.owner.is_some()).map(|row| moment(DATABASE, row.expires)));
        for (member, drift) in world.members.iter().zip(self.drift) {
            let last = |time: u64| moment(drift, time + 1).saturating_sub(1);
            match member.attempt {
                Attempt::Recorded(_) => moments.push(last(member.counts_until.saturating_sub(ATTEMPT))),
                Attempt::Covered(deadline) | Attempt::Sent(deadline) => moments.push(last(deadline - 1)),
                Attempt::None => {}
            }
        }
        let now = moments.into_iter().filter(|moment| *moment > world.now && *moment <= HORIZON).min()?;
        Some(World { now, ..*world })
    }

    /// Attempts on the wire. One whose deadline has passed was given up by its member, or the kernel of a
    /// member that is paused holds nothing of it that is not sent yet.
    fn in_flight(&self, world: &World) -> usize {
        let is_in_flight = |me: usize| matches!(world.members[me].attempt, Attempt::Sent(deadline) if self.local(world, me) < deadline);
        (0..2).filter(|&me| is_in_flight(me)).count()
    }

    fn is_wrong(&self, world: &World) -> bool {
        world.stale_write || self.in_flight(world) > 1
    }

    /// Until when a member counts on a lease that it asked for at `asked`.
    fn counted(&self, asked: u64) -> u64 {
        if self.rules.drift { units(counts_until(duration(asked), duration(LEASE))) } else { asked + LEASE }
    }

    /// The first member owns both partitions, and has just renewed.
    fn start(&self) -> World {
        let row = Row { owner: Some(0), epoch: 1, expires: LEASE };
        let first = Member { counts_until: self.counted(0), held: [Some(1); 2], ..Member::NEW };
        World { now: 0, rows: [row; 2], members: [first, Member::NEW], stale_write: false }
    }

    /// Looks at everything that can happen. The first state that is wrong, or the number of states.
    fn run(&self) -> Result<usize, Box<World>> {
        let start = self.start();
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let mut seen = HashSet::new();
        let mut open = vec![start];
        while let Some(world) = open.pop() {
            for next in self.next(&world) {
                if self.is_wrong(&next) {
                    return Err(Box::new(next));
                }
                let next = next.without_what_does_not_matter();
                if seen.insert(hasher.hash_one(next)) {
                    open.push(next);
                }
            }
        }
        Ok(seen.len())
    }
}

impl World {
    /// States that differ only in what can't have any effect are one.
    fn without_what_does_not_matter(mut self) -> Self {
        for row in self.rows.iter_mut().filter(|row| row.owner.is_none()) {
            row.expires = 0;
        }
        (0..2).for_each(|partition| self.renumber(partition));
        self
    }

    /// Epochs are compared for equality alone: those that are still known somewhere are numbered from 1.
    fn renumber(&mut self, partition: usize) {
        let mut known = [0; 12];
        let mut count = 0;
        self.each_epoch(partition, &mut |epoch| {
            known[count] = *epoch;
            count += 1;
        });
        let mut known = known[..count].to_vec();
        known.sort_unstable();
        known.dedup();
        self.each_epoch(partition, &mut |epoch| {
            *epoch = u8::try_from(known.binary_search(epoch).unwrap() + 1).unwrap();
        });
    }

    fn each_epoch(&mut self, partition: usize, act: &mut dyn FnMut(&mut u8)) {
        act(&mut self.rows[partition].epoch);
        for member in &mut self.members {
            member.held[partition].iter_mut().for_each(&mut *act);
            match &mut member.leases {
                Line::Answered(Answer::Claimed(of, epoch)) if *of == partition => act(epoch),
                Line::Answered(Answer::Renewed(_, held)) => held[partition].iter_mut().for_each(&mut *act),
                _ => {}
            }
            if partition == ATTEMPTS_ON {
                if let Line::Asked(epoch) | Line::Answered((epoch, _)) = &mut member.writes {
                    act(epoch);
                }
                if let Attempt::Recorded(epoch) = &mut member.attempt {
                    act(epoch);
                }
            }
        }
    }
}

impl Member {
    const NEW: Self = Self {
        counts_until: 0,
        held: [None; 2],
        closed: false,
        leases: Line::Idle,
        writes: Line::Idle,
        attempt: Attempt::None,
    };

    fn lose(&mut self, partition: usize) {
        self.held[partition] = None;
        self.closed &= partition != ATTEMPTS_ON;
    }
}

/// Nothing is at work under the lease of the partition with the attempts.
fn is_quiet(member: &Member) -> bool {
    member.writes == Line::Idle && member.attempt == Attempt::None
}

fn duration(units: u64) -> Duration {
    Duration::from_micros(units)
}

fn units(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap()
}

fn nothing_is_wrong(drift: [i64; 2]) {
    let searched = Search { rules: ALL, drift }.run();
    let states = searched.unwrap_or_else(|world| panic!("{world:#?}"));
    assert!(states > 1_000_000, "the search saw only {states} states");
}

#[test]
fn no_two_owners_ever_have_an_attempt_in_flight_for_one_partition() {
    nothing_is_wrong([-1, -1]);
}

#[test]
fn nor_do_they_if_the_next_owners_clock_is_fast() {
    nothing_is_wrong([-1, 1]);
}

#[test]
fn the_search_finds_what_each_rule_is_for() {
    let broken = [
        Rules { fence: false, ..ALL },
        Rules { deadline: false, ..ALL },
        Rules { drift: false, ..ALL },
        Rules { look_before_sending: false, ..ALL },
    ];
    for rules in broken {
        assert!(Search { rules, drift: [-1, -1] }.run().is_err(), "nothing wrong without a rule: {rules:?}");
    }
}
