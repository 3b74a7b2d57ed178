//! A commit in doubt, searched: one writer whose commits carry commands under both of its partitions, links that are cut
//! before, during and after a commit, and another member that takes one partition or both at any time.
//!
//! A commit that was asked for may be carried out after its link is gone, or rolled back, as long as nobody waits for it.

use super::search::{Model, search};
use super::*;

/// Commands, of the one partition and the other in turn. What a commit finds out of a command is of that command alone, so
/// that each outcome bears its command's number.
const COMMANDS: usize = 4;
/// How often a link may be cut.
const CUTS: u8 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rule {
    /// A transaction goes on only under current leases.
    Fence,
    /// It holds the leases to its end.
    LeasesAreHeld,
    /// A commit that was not answered is asked after, not made again at once.
    AskedAfter,
    /// The answer waits for a commit that is still under way.
    EndIsAwaited,
    /// An outcome is told to the command that it belongs to. Without: to the one in its place, of those that are not lost.
    PairedByIdentity,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Writer {
    Ready,
    /// A commit was asked for.
    Committing,
    /// The link was cut before its answer was heard.
    InDoubt,
    Done,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Told {
    Nothing,
    Outcome(usize),
    /// Its lease is lost: the next owner sees to it.
    Lost,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct World {
    /// Partitions that another member has taken, and whether the writer knows.
    taken: [bool; 2],
    known: [bool; 2],
    /// The transaction at the server whose commit was asked for: its number and commands.
    transaction: Option<(u8, [bool; COMMANDS])>,
    /// The number of the last commit.
    committed: u8,
    /// How often each command was recorded.
    recorded: [u8; COMMANDS],
    stale_write: bool,
    writer: Writer,
    number: u8,
    batch: [bool; COMMANDS],
    /// Whose outcomes the last transaction found.
    found: [bool; COMMANDS],
    told: [Told; COMMANDS],
    cuts: u8,
}

struct Doubt {
    without: Option<Rule>,
}

fn partition(command: usize) -> usize {
    command % 2
}

fn chosen(which: [bool; COMMANDS]) -> impl Iterator<Item = usize> {
    (0..COMMANDS).filter(move |command| which[*command])
}

impl World {
    fn is_current(&self, command: usize) -> bool {
        let owner = if self.taken[partition(command)] { "another" } else { "us" };
        is_current((Some(&owner), 1), (&"us", 1))
    }

    /// Drops what is under leases that are known to be lost.
    fn drop_lost(&mut self) {
        for command in chosen(self.batch).filter(|command| self.known[partition(*command)]) {
            self.batch[command] = false;
            self.told[command] = Told::Lost;
        }
    }

    fn carry_out(&mut self, number: u8, commands: [bool; COMMANDS]) {
        self.transaction = None;
        self.committed = number;
        for command in chosen(commands) {
            self.recorded[command] += 1;
            self.stale_write |= !self.is_current(command);
        }
    }
}

impl Doubt {
    fn has(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// What the other member and the writer's renewals do with a partition.
    fn leases(&self, world: &World, partition: usize) -> World {
        let mut world = *world;
        let has_it = |(_, commands): (u8, [bool; COMMANDS])| chosen(commands).any(|command| command % 2 == partition);
        let is_held = self.has(Rule::LeasesAreHeld) && world.transaction.is_some_and(has_it);
        if world.taken[partition] {
            world.known[partition] = true;
        } else if !is_held {
            world.taken[partition] = true;
        }
        world
    }

    fn begin(&self, world: &mut World) {
        world.drop_lost();
        let fenced: Vec<usize> = chosen(world.batch).filter(|command| !world.is_current(*command)).collect();
        if world.batch == [false; COMMANDS] {
            world.writer = Writer::Done;
        } else if self.has(Rule::Fence) && !fenced.is_empty() {
            for command in fenced {
                world.known[partition(command)] = true;
            }
        } else if world.transaction.is_none() {
            world.number += 1;
            world.transaction = Some((world.number, world.batch));
            world.found = world.batch;
            world.writer = Writer::Committing;
        }
    }

    /// In doubt, whether the commit took place.
    fn ask_after(&self, world: &mut World) {
        if !self.has(Rule::PairedByIdentity) {
            world.drop_lost();
        }
        if !self.has(Rule::AskedAfter) {
            world.writer = Writer::Ready;
        } else if world.transaction.is_none() || !self.has(Rule::EndIsAwaited) {
            if world.committed == world.number {
                self.report(world);
            } else {
                world.writer = Writer::Ready;
            }
        }
    }

    fn report(&self, world: &mut World) {
        let place = |place: usize| chosen(world.found).nth(place);
        let commands = chosen(world.batch).enumerate();
        let identity = self.has(Rule::PairedByIdentity);
        let outcomes: Vec<_> =
            commands.filter_map(|(at, command)| Some((command, if identity { command } else { place(at)? }))).collect();
        for (command, outcome) in outcomes {
            world.told[command] = Told::Outcome(outcome);
        }
        world.writer = Writer::Done;
    }
}

impl Model for Doubt {
    type State = World;

    fn start(&self) -> World {
        World {
            taken: [false; 2],
            known: [false; 2],
            transaction: None,
            committed: 0,
            recorded: [0; COMMANDS],
            stale_write: false,
            writer: Writer::Ready,
            number: 0,
            batch: [true; COMMANDS],
            found: [false; COMMANDS],
            told: [Told::Nothing; COMMANDS],
            cuts: CUTS,
        }
    }

    fn next(&self, world: &World) -> Vec<World> {
        let mut next = vec![self.leases(world, 0), self.leases(world, 1)];
        let mut happens = |change: &dyn Fn(&mut World)| {
            let mut world = *world;
            change(&mut world);
            next.push(world);
        };
        if let Some((number, commands)) = world.transaction {
            happens(&|world| world.carry_out(number, commands));
            if world.writer != Writer::Committing {
                happens(&|world| world.transaction = None);
            }
        }
        match world.writer {
            Writer::Ready => happens(&|world| self.begin(world)),
            Writer::Committing => {
                if world.transaction.is_none() {
                    happens(&|world| self.report(world));
                }
                if world.cuts > 0 {
                    happens(&|world| (world.writer, world.cuts) = (Writer::InDoubt, world.cuts - 1));
                }
            }
            Writer::InDoubt => happens(&|world| self.ask_after(world)),
            Writer::Done => {}
        }
        next
    }

    fn is_wrong(&self, world: &World) -> bool {
        let is_wrong = |command: usize| match world.told[command] {
            Told::Nothing => world.writer == Writer::Done,
            Told::Outcome(of) => of != command || world.recorded[command] == 0,
            Told::Lost => !world.taken[partition(command)],
        };
        world.stale_write || (0..COMMANDS).any(|command| is_wrong(command) || world.recorded[command] > 1)
    }
}

#[test]
fn every_command_of_a_commit_in_doubt_is_told_its_own_outcome_and_recorded_once() {
    let states = search(&Doubt { without: None }).unwrap_or_else(|world| panic!("{world:#?}"));
    assert!(states > 100, "the search saw only {states} states");
}

#[test]
fn the_search_finds_what_each_rule_of_a_commit_in_doubt_is_for() {
    for rule in [Rule::Fence, Rule::LeasesAreHeld, Rule::AskedAfter, Rule::EndIsAwaited, Rule::PairedByIdentity] {
        let found = search(&Doubt { without: Some(rule) });
        assert!(found.is_err(), "nothing wrong without a rule: {rule:?}");
    }
}
