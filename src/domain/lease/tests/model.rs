//! The protocol of leases, searched: a partition's owner, another member that watches its renewals, and every order of what
//! they, the database, the network and the clocks can do, up to a moment after the first lease has ended.
//!
//! A member asks the database over two connections, one for its leases and one for its writes; a request may be carried
//! out, and its answer heard, at any later time, or never. One that was given up may still be carried out, too. Nothing says
//! that a member ever acts again: a pause, a suspension and a crash are histories in which one does nothing for a while, or to
//! the end, while what it had asked is still carried out. Its clock goes on meanwhile; where that rule is left out, it may
//! stand still for any of the steps that time makes.
//!
//! Clocks run 1 % slow or fast, and the database's may be set; with all rules, nothing reads that one. Any member may ask for
//! the partition at any time: whose it should be is of no account here. Each makes one attempt at most, for two are enough to
//! be in flight at once; where one is over, the search goes no further.
//!
//! Time goes from one moment that matters to the next. What a look finds out is written down as soon as it is heard, and what
//! is given back is so at once; each stands for all later moments.

use super::search::{Model, search};
use super::*;

mod world;

use world::{Answer, Ask, Attempt, Line, Member, Renewal, Row, World};

/// The two members: the partition's owner to begin with, and the one that watches its renewals.
const OWNER: usize = 0;
const WATCHER: usize = 1;
/// The length of a lease and of an attempt, in units of the model.
const LEASE: u64 = 10_000;
const ATTEMPT: u64 = 4_000;
/// Members ask for renewals at these moments, or let them pass.
const RENEW_EVERY: u64 = LEASE / 2;
/// The search ends here.
const HORIZON: u64 = 11_000;
/// Where the database's clock decides, it is 1 % fast, and may be set forward by so much, once.
const DATABASE: i64 = 1;
const SET_FORWARD: u64 = LEASE / 2;

/// The rules, each of which can be left out, to see that the search finds what it is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// A write is taken only under the current owner and epoch.
    Fence,
    /// An attempt begins only if its deadline lies within the lease.
    Deadline,
    /// A lease counts for a little less than its length.
    Drift,
    /// Nothing is put on the wire after an attempt's deadline.
    LookBeforeSending,
    /// A member is gone if its token stood still for a lease by a watcher's clock. Without: if its lease is over by the
    /// database's clock.
    Watch,
    /// That clock is never set. Not a rule of ours: without the watch, all would hang on it.
    DatabaseClockIsNotSet,
    /// Members' clocks go on while they are suspended.
    ClockGoesOn,
    /// A lease counts from before its renewal was asked for.
    CountsFromTheAsking,
    /// A watch begins when the first look is answered.
    WatchesFromTheAnswer,
    /// A member is noted as gone only if its token is still the one that was seen.
    NotedByToken,
    /// A partition is given back only when no attempt is under way.
    GivenBackWhenQuiet,
    /// A member that comes back drops what it still owned.
    RevivalDrops,
    /// A partition is taken only under the epoch that was seen.
    ClaimedByEpoch,
}

fn duration(units: u64) -> Duration {
    Duration::from_micros(units)
}

/// A clock that is so many percent fast, at a moment.
fn clock(percent: i64, moment: u64) -> u64 {
    moment * u64::try_from(100 + percent).unwrap() / 100
}

/// The first moment at which the clock shows `time`.
fn moment(percent: i64, time: u64) -> u64 {
    (time * 100).div_ceil(u64::try_from(100 + percent).unwrap())
}

struct Leases<'a> {
    without: &'a [Rule],
    /// How fast the members' clocks are, in percent.
    drift: [i64; 2],
    /// Who may give up requests.
    impatient: Option<usize>,
}

impl Leases<'_> {
    fn has(&self, rule: Rule) -> bool {
        !self.without.contains(&rule)
    }

    fn local(&self, world: &World, me: usize) -> u64 {
        clock(self.drift[me], world.now) - world.members[me].behind
    }

    /// The first moment at which a member's clock shows `time`, if it goes on from now on.
    fn moment_of(&self, world: &World, me: usize, time: u64) -> u64 {
        moment(self.drift[me], time + world.members[me].behind)
    }

    /// Whether a statement that begins now takes the row for free.
    fn is_free(&self, world: &World) -> bool {
        world.row.owner.is_none_or(|owner| {
            if self.has(Rule::Watch) {
                world.renewals[owner].gone
            } else {
                world.renewals[owner].expires <= database_clock(world)
            }
        })
    }

    fn asks(&self, world: &World, me: usize, next: &mut Vec<World>) {
        let member = &world.members[me];
        let local = self.local(world, me);
        let mut ask = |ask: Ask| next.push(changed(world, |world| world.members[me].leases = Line::Asked(ask)));
        if member.leases == Line::Idle {
            if world.now.is_multiple_of(RENEW_EVERY) && world.now > 0 {
                ask(Ask::Renew(local));
            }
            if me == WATCHER && self.has(Rule::Watch) && self.may_show(world) {
                ask(Ask::Look(local));
            }
            if member.held.is_none() && self.is_free(world) {
                ask(Ask::Claim { epoch: world.row.epoch, gone: world.row.owner.is_some() });
            }
            return;
        }
        // Another connection is made, and nobody hears the answer.
        let left = match member.leases {
            Line::Asked(Ask::Look(_)) | Line::Answered(_) => None,
            Line::Asked(ask) => Some(ask),
            Line::Idle => return,
        };
        if Some(me) == self.impatient && (left.is_none() || member.given_up.is_none()) {
            next.push(changed(world, |world| {
                world.members[me].leases = Line::Idle;
                world.members[me].given_up = left.or(member.given_up);
            }));
        }
    }

    /// What a member does with the partition of the attempts: begins the one attempt, or gives it back.
    fn works(&self, world: &World, me: usize, next: &mut Vec<World>) {
        let member = &world.members[me];
        let Some(epoch) = member.held else { return };
        let quiet = member.writes == Line::Idle && member.attempt == Attempt::None;
        if quiet {
            next.push(changed(world, |world| world.members[me].writes = Line::Asked(epoch)));
        }
        if quiet || !self.has(Rule::GivenBackWhenQuiet) {
            next.push(changed(world, |world| {
                let row = &mut world.row;
                if is_current((row.owner.as_ref(), row.epoch.into()), (&me, epoch.into())) {
                    row.owner = None;
                }
                world.members[me].held = None;
            }));
        }
    }

    /// A look is of account if its watch can end before the search does, or if it can be the watch's end.
    fn may_show(&self, world: &World) -> bool {
        let local = self.local(world, WATCHER);
        world.members[WATCHER]
            .sight
            .map_or_else(|| self.ends_in_time(world, local), |(_, since)| since + LEASE <= local)
    }

    fn ends_in_time(&self, world: &World, since: u64) -> bool {
        self.moment_of(world, WATCHER, since + LEASE) <= HORIZON
    }

    /// The database carries out what was asked, whether or not anybody waits for the answer.
    fn database(&self, world: &World, me: usize, next: &mut Vec<World>) {
        if let Line::Asked(ask) = world.members[me].leases {
            let mut world = *world;
            world.members[me].leases = Line::Answered(self.carry_out(&mut world, me, ask));
            next.push(world);
        }
        if let Some(ask) = world.members[me].given_up {
            let mut world = *world;
            world.members[me].given_up = None;
            self.carry_out(&mut world, me, ask);
            next.push(world);
        }
        if let Line::Asked(epoch) = world.members[me].writes {
            let mut world = *world;
            let row = &world.row;
            let current = is_current((row.owner.as_ref(), row.epoch.into()), (&me, epoch.into()));
            let taken = current || !self.has(Rule::Fence);
            world.stale_write |= taken && !current;
            world.members[me].writes = Line::Answered((epoch, taken));
            next.push(world);
        }
    }

    fn carry_out(&self, world: &mut World, me: usize, ask: Ask) -> Answer {
        match ask {
            Ask::Look(asked) => Answer::Seen(asked, world.renewals[OWNER].token),
            Ask::Renew(asked) => {
                let revived = world.renewals[me].gone && self.has(Rule::RevivalDrops);
                let expires = database_clock(world) + LEASE;
                world.renewals[me] = Renewal { token: world.renewals[me].token + 1, gone: false, expires };
                world.row.owner = world.row.owner.filter(|owner| *owner != me || !revived);
                Answer::Renewed(asked, (world.row.owner == Some(me)).then_some(world.row.epoch))
            }
            Ask::Claim { epoch, gone } => {
                let row = world.row;
                // The end of a lease used to be in the partition's own row.
                let gone = if self.has(Rule::Watch) { gone } else { self.is_free(world) };
                let seen = row.epoch == epoch || !self.has(Rule::ClaimedByEpoch);
                if !seen || (row.owner.is_some() && !gone) {
                    return Answer::NotClaimed;
                }
                let epoch = row.epoch + 1;
                world.row = Row { owner: Some(me), epoch };
                Answer::Claimed(epoch)
            }
        }
    }

    fn hears(&self, world: &World, me: usize, next: &mut Vec<World>) {
        if let Line::Answered(answer) = world.members[me].leases {
            let local = self.local(world, me);
            let mut world = *world;
            let member = &mut world.members[me];
            member.leases = Line::Idle;
            match answer {
                Answer::Renewed(asked, held) => {
                    member.held = member.held.filter(|_| member.held == held);
                    member.counts_until = self.counted(if self.has(Rule::CountsFromTheAsking) { asked } else { local });
                }
                Answer::Seen(asked, token) => {
                    self.sees(&mut world, Look { asked: duration(asked), answered: duration(local) }, token);
                }
                Answer::Claimed(epoch) => member.held = Some(epoch),
                Answer::NotClaimed => {}
            }
            next.push(world);
        }
        if let Line::Answered((epoch, taken)) = world.members[me].writes {
            let mut world = *world;
            let member = &mut world.members[me];
            member.writes = Line::Idle;
            if taken {
                member.attempt = Attempt::Recorded(epoch);
            } else if member.held == Some(epoch) {
                member.held = None;
            }
            next.push(world);
        }
    }

    fn sees(&self, world: &mut World, look: Look, token: u8) {
        let begin = if self.has(Rule::WatchesFromTheAnswer) { look.answered } else { look.asked };
        let unchanged = world.members[WATCHER].sight.filter(|(last, _)| *last == token);
        let since = unchanged.map_or(units(begin), |(_, since)| since);
        world.members[WATCHER].sight = Some((token, since));
        let owner = &mut world.renewals[OWNER];
        if is_gone(duration(since), look, duration(LEASE)) && (owner.token == token || !self.has(Rule::NotedByToken)) {
            owner.gone = true;
        }
    }

    fn attempts(&self, world: &World, me: usize, next: &mut Vec<World>) {
        let (local, member) = (self.local(world, me), &world.members[me]);
        let becomes = match member.attempt {
            Attempt::Recorded(epoch) if member.held == Some(epoch) => {
                let deadline = local + ATTEMPT;
                if self.has(Rule::Deadline) && !may_begin(duration(deadline), duration(member.counts_until)) {
                    return;
                }
                Attempt::Covered(deadline)
            }
            Attempt::Covered(deadline) if may_send(duration(local), duration(deadline)) => Attempt::Sent(deadline),
            Attempt::Covered(_) if !self.has(Rule::LookBeforeSending) => Attempt::Sent(local + ATTEMPT),
            _ => return,
        };
        next.push(changed(world, |world| world.members[me].attempt = becomes));
    }

    /// An attempt that ends, or can't be sent any more. No second one can be in flight beside it.
    fn is_over(&self, world: &World, me: usize) -> bool {
        let (local, member) = (self.local(world, me), &world.members[me]);
        match member.attempt {
            Attempt::None => false,
            Attempt::Recorded(epoch) => member.held != Some(epoch),
            Attempt::Covered(deadline) => local >= deadline && self.has(Rule::LookBeforeSending),
            Attempt::Sent(deadline) => local >= deadline,
        }
    }

    /// The next moment that matters: the first at which a member can be found to be gone, the last at which an attempt
    /// can begin or is not over, and those of the renewals.
    fn later(&self, world: &World) -> Option<u64> {
        let mut moments = vec![world.now - world.now % RENEW_EVERY + RENEW_EVERY, HORIZON];
        if let Some((_, since)) = world.members[WATCHER].sight {
            moments.push(self.moment_of(world, WATCHER, since + LEASE));
        }
        for (me, member) in world.members.iter().enumerate() {
            if !self.has(Rule::Watch) {
                let expires = world.renewals[me].expires.saturating_sub(world.database_ahead);
                moments.push(moment(DATABASE, expires));
            }
            let last = |time: u64| self.moment_of(world, me, time + 1).saturating_sub(1);
            match member.attempt {
                Attempt::Recorded(_) => moments.push(last(member.counts_until.saturating_sub(ATTEMPT))),
                Attempt::Covered(deadline) | Attempt::Sent(deadline) => moments.push(last(deadline - 1)),
                Attempt::None => {}
            }
        }
        moments.into_iter().filter(|moment| *moment > world.now && *moment <= HORIZON).min()
    }

    /// What clocks do, and other clocks don't.
    fn clocks(&self, world: &World, next: &mut Vec<World>) {
        if let Some(now) = self.later(world) {
            next.push(changed(world, |world| world.now = now));
            for me in (0..2).filter(|_| !self.has(Rule::ClockGoesOn)) {
                let shown = self.local(world, me);
                next.push(changed(world, |world| {
                    world.now = now;
                    world.members[me].behind = clock(self.drift[me], now) - shown;
                }));
            }
        }
        if !self.has(Rule::DatabaseClockIsNotSet) && world.database_ahead == 0 {
            next.push(changed(world, |world| world.database_ahead = SET_FORWARD));
        }
    }

    /// Attempts on the wire. One whose deadline has passed was given up by its member, or the kernel of a
    /// member that is paused holds nothing of it that is not sent yet.
    fn in_flight(&self, world: &World) -> usize {
        let is_in_flight = |me: usize| matches!(world.members[me].attempt, Attempt::Sent(deadline) if self.local(world, me) < deadline);
        (0..2).filter(|&me| is_in_flight(me)).count()
    }

    /// Until when a member counts on a lease from `asked` on.
    fn counted(&self, asked: u64) -> u64 {
        if self.has(Rule::Drift) { units(counts_until(duration(asked), duration(LEASE))) } else { asked + LEASE }
    }
}

impl Model for Leases<'_> {
    type State = World;

    /// The first member owns the partition, and does not know yet that it has renewed.
    fn start(&self) -> World {
        let first = Member { held: Some(1), leases: Line::Answered(Answer::Renewed(0, Some(1))), ..Member::NEW };
        let second = Member { counts_until: self.counted(0), ..Member::NEW };
        World {
            now: 0,
            database_ahead: 0,
            row: Row { owner: Some(OWNER), epoch: 1 },
            renewals: [Renewal { token: 1, gone: false, expires: LEASE }; 2],
            members: [first, second],
            stale_write: false,
        }
    }

    fn next(&self, world: &World) -> Vec<World> {
        let mut next = Vec::new();
        if (0..2).any(|me| self.is_over(world, me)) {
            return next;
        }
        for me in 0..2 {
            self.database(world, me, &mut next);
            self.asks(world, me, &mut next);
            self.works(world, me, &mut next);
            self.hears(world, me, &mut next);
            self.attempts(world, me, &mut next);
        }
        self.clocks(world, &mut next);
        next
    }

    fn is_wrong(&self, world: &World) -> bool {
        world.stale_write || self.in_flight(world) > 1
    }

    fn without_what_does_not_matter(&self, mut world: World) -> World {
        for me in [OWNER, WATCHER] {
            // Nothing can begin any more.
            if world.members[me].counts_until < self.local(&world, me) + ATTEMPT {
                world.members[me].counts_until = 0;
            }
            if self.has(Rule::Watch) {
                world.renewals[me].expires = 0;
            }
        }
        let Member { sight, leases, .. } = world.members[WATCHER];
        let looks = matches!(leases, Line::Asked(Ask::Look(_)) | Line::Answered(Answer::Seen(..)));
        world.members[WATCHER].sight =
            sight.filter(|(_, since)| self.ends_in_time(&world, *since)).map(|(token, since)| {
                let is_ripe = !looks && since + LEASE <= self.local(&world, WATCHER);
                (token, if is_ripe { 0 } else { since })
            });
        world.renumber();
        world
    }
}

fn changed(world: &World, change: impl FnOnce(&mut World)) -> World {
    let mut world = *world;
    change(&mut world);
    world
}

fn database_clock(world: &World) -> u64 {
    clock(DATABASE, world.now) + world.database_ahead
}

fn units(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap()
}

fn nothing_is_wrong(without: &[Rule], impatient: Option<usize>) {
    let searched = search(&Leases { without, drift: [-1, 1], impatient });
    let states = searched.unwrap_or_else(|world| panic!("{world:#?}"));
    assert!(states > 100_000, "the search saw only {states} states");
}

#[test]
fn no_two_owners_ever_have_an_attempt_in_flight_for_one_partition() {
    nothing_is_wrong(&[], Some(OWNER));
}

#[test]
fn nor_do_they_if_the_next_owner_gives_requests_up() {
    nothing_is_wrong(&[], Some(WATCHER));
}

#[test]
fn a_database_clock_that_is_never_set_would_do_as_well() {
    nothing_is_wrong(&[Rule::Watch], None);
}

#[test]
fn the_search_finds_what_each_rule_is_for() {
    let broken: [&[Rule]; 12] = [
        &[Rule::Fence],
        &[Rule::Deadline],
        &[Rule::Drift],
        &[Rule::LookBeforeSending],
        &[Rule::Watch, Rule::DatabaseClockIsNotSet],
        &[Rule::ClockGoesOn],
        &[Rule::CountsFromTheAsking],
        &[Rule::WatchesFromTheAnswer],
        &[Rule::NotedByToken],
        &[Rule::GivenBackWhenQuiet],
        &[Rule::RevivalDrops],
        &[Rule::ClaimedByEpoch],
    ];
    for without in broken {
        let found = search(&Leases { without, drift: [-1, 1], impatient: None });
        assert!(found.is_err(), "nothing wrong without a rule: {without:?}");
    }
}
