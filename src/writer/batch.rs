//! The commands of one transaction, by kind.

use crate::domain::candidate::{Candidate, Token};
use crate::domain::event::{Entity, EventId};
use crate::domain::operator::Decided;
use crate::domain::volume::Volume;
use crate::engine::command::{Suspect, Ticket, Unpark};
use crate::engine::lanes::Then;
use crate::handoff::{Arrival, Command, Settlement, Written};
use crate::lease::Held;

/// Arrivals that one transaction takes at most. Each may hold a lock on its entity until the commit, and the database has
/// room for a few thousand of all workers together.
const ARRIVALS: usize = 512;
/// Reads of parked events that one transaction takes at most; each brings at most 4 MiB, or one event.
const UNPARKS: usize = 4;

/// An attempt that is to begin.
pub(crate) struct Start {
    pub(crate) candidate: Candidate,
    pub(crate) held: Held,
    /// Only if this one becomes final in the same transaction.
    pub(crate) after: Option<EventId>,
}

/// Arrivals that came in together.
pub(crate) struct Together {
    pub(crate) ticket: Ticket,
    /// The place of the first of them in the batch: they are known by it, whatever becomes of the others.
    pub(crate) first: usize,
    pub(crate) arrivals: Vec<Arrival>,
}

/// The commands of one transaction, by kind.
#[derive(Default)]
pub(crate) struct Batch {
    /// Reads of lines, and of events that are due, that it takes at most.
    reads: usize,
    pub(crate) settlements: Vec<(Settlement, Then)>,
    pub(crate) admissions: Vec<Together>,
    pub(crate) parks: Vec<(EventId, Held)>,
    pub(crate) starts: Vec<Start>,
    pub(crate) takeovers: Vec<Held>,
    pub(crate) operations: Vec<(Ticket, Decided, Held)>,
    pub(crate) fronts: Vec<(Entity, Held)>,
    pub(crate) wakes: Vec<(Token, Held)>,
    pub(crate) unparks: Vec<Unpark<Held>>,
    pub(crate) gathers: Vec<Vec<Held>>,
    pub(crate) audits: Vec<(Vec<Suspect>, Vec<Held>)>,
}

impl Batch {
    /// Sorts commands by kind; those beyond the limits of one transaction are given back. Of bodies, it takes what `volume`
    /// allows, or what came first. A read of a line brings at most 16 KiB, or one event.
    pub(crate) fn gather(commands: Vec<Command>, volume: Volume) -> (Self, Vec<Command>) {
        let mut batch = Self { reads: volume.reads(), ..Self::default() };
        let (mut rest, mut full) = (Vec::new(), false);
        for command in commands {
            match command {
                Command::Admit { ticket, arrivals } if !full && batch.has_room_for(&arrivals, volume.limit()) => {
                    let first = batch.arrivals();
                    batch.admissions.push(Together { ticket, first, arrivals });
                }
                Command::Start { candidate, held } => batch.starts.push(Start { candidate, held, after: None }),
                Command::Settle { settlement, then } => batch.settle(settlement, then),
                Command::ReadFront { entity, held } if batch.fronts.len() < batch.reads => {
                    batch.fronts.push((entity, held));
                }
                Command::Wake { token, held } if batch.wakes.len() < batch.reads => batch.wakes.push((token, held)),
                Command::Park { id, held } => batch.parks.push((id, held)),
                Command::Unpark(unpark) if batch.unparks.len() < UNPARKS => batch.unparks.push(unpark),
                Command::Operate { ticket, decided, held } => batch.operations.push((ticket, decided, held)),
                Command::Gather { held } => batch.gathers.push(held),
                Command::Audit { suspects, held } => batch.audits.push((suspects, held)),
                Command::TakeOver { held } => batch.takeovers.push(held),
                beyond => {
                    // Arrivals stay in their order: behind one that has to wait, all wait.
                    full |= matches!(beyond, Command::Admit { .. });
                    rest.push(beyond);
                }
            }
        }
        (batch, rest)
    }

    fn settle(&mut self, settlement: Settlement, mut then: Then) {
        let held = || settlement.held.clone();
        match &then {
            Then::Begin(next) => {
                let after = Some(settlement.candidate.id);
                self.starts.push(Start { candidate: next.clone(), held: held(), after });
            }
            Then::Read if self.fronts.len() < self.reads => {
                self.fronts.push((settlement.candidate.event.entity.clone(), held()));
            }
            Then::Read | Then::Nothing => then = Then::Nothing,
        }
        self.settlements.push((settlement, then));
    }

    /// Gives back what is beyond the limits: it came to nothing, and they have become smaller.
    pub(crate) fn shed(&mut self, volume: Volume) -> Vec<Command> {
        let commands = std::mem::take(&mut self.admissions).into_iter();
        let commands = commands.map(|Together { ticket, arrivals, .. }| Command::Admit { ticket, arrivals });
        let (kept, mut beyond) = Self::gather(commands.collect(), volume);
        self.admissions = kept.admissions;
        let reads = volume.reads();
        let fronts = self.fronts.split_off(reads.min(self.fronts.len()));
        beyond.extend(fronts.into_iter().map(|(entity, held)| Command::ReadFront { entity, held }));
        let wakes = self.wakes.split_off(reads.min(self.wakes.len()));
        beyond.extend(wakes.into_iter().map(|(token, held)| Command::Wake { token, held }));
        let unparks = self.unparks.split_off(1.min(self.unparks.len()));
        beyond.extend(unparks.into_iter().map(Command::Unpark));
        beyond
    }

    /// The largest body that is to be recorded.
    pub(crate) fn largest(&self) -> usize {
        self.arrived().map(Arrival::bytes).max().unwrap_or(0)
    }

    fn has_room_for(&self, arrivals: &[Arrival], volume: usize) -> bool {
        let bytes = arrivals.iter().map(Arrival::bytes).sum::<usize>();
        let fits = self.arrivals() + arrivals.len() <= ARRIVALS && self.bytes() + bytes <= volume;
        fits || self.admissions.is_empty()
    }

    /// Of all bodies.
    pub(crate) fn bytes(&self) -> usize {
        self.arrived().map(Arrival::bytes).sum()
    }

    fn arrivals(&self) -> usize {
        self.admissions.iter().map(|together| together.arrivals.len()).sum()
    }

    pub(crate) fn settlements(&self) -> impl Iterator<Item = &Settlement> {
        self.settlements.iter().map(|(settlement, _)| settlement)
    }

    pub(crate) fn arrived(&self) -> impl Iterator<Item = &Arrival> {
        self.admissions.iter().flat_map(|together| &together.arrivals)
    }

    /// The arrivals, each with its place in the batch.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (usize, &Arrival)> {
        self.admissions.iter().flat_map(|together| (together.first..).zip(&together.arrivals))
    }

    pub(crate) fn arrived_mut(&mut self) -> impl Iterator<Item = &mut Arrival> {
        self.admissions.iter_mut().flat_map(|together| &mut together.arrivals)
    }

    /// How much there is to do: each arrival counts.
    pub(crate) fn commands(&self) -> usize {
        let changes = self.arrivals() + self.settlements.len() + self.starts.len() + self.parks.len();
        let reads = self.fronts.len() + self.wakes.len() + self.unparks.len() + self.gathers.len() + self.audits.len();
        changes + reads + self.operations.len() + self.takeovers.len()
    }

    pub(crate) fn held(&self) -> impl Iterator<Item = &Held> {
        let arrivals = self.arrived().map(|arrival| &arrival.held);
        let settlements = self.settlements().map(|settlement| &settlement.held);
        let fronts = self.fronts.iter().map(|(_, held)| held);
        let others = self.parks.iter().map(|(_, held)| held).chain(self.starts.iter().map(|start| &start.held));
        let wakes = self.wakes.iter().map(|(_, held)| held);
        let audits = self.audits.iter().map(|(_, held)| held);
        let looks = self.unparks.iter().map(|unpark| &unpark.held).chain(&self.gathers).chain(audits).flatten();
        let operations = self.operations.iter().map(|(.., held)| held);
        let reads = fronts.chain(wakes).chain(looks);
        arrivals.chain(settlements).chain(others).chain(reads).chain(operations).chain(&self.takeovers)
    }

    /// Drops what is under a lost lease. What something hangs on is told: places at hosts, and whoever waits for an answer.
    pub(crate) fn drop_lost(&mut self) -> Vec<Written> {
        let kept = |held: &Held| !held.is_lost();
        self.settlements.retain(|(settlement, _)| kept(&settlement.held));
        self.fronts.retain(|(_, held)| kept(held));
        self.wakes.retain(|(_, held)| kept(held));
        self.takeovers.retain(kept);
        // A suspect of a partition that is lost is the next owner's.
        self.audits.retain(|(_, held)| held.iter().all(kept));
        for looked_at in self.unparks.iter_mut().map(|unpark| &mut unpark.held).chain(&mut self.gathers) {
            looked_at.retain(kept);
        }
        let starts = self.starts.extract_if(.., |start| !kept(&start.held));
        let mut told: Vec<Written> = starts.map(|start| Written::NotStarted(start.candidate)).collect();
        let parks = self.parks.extract_if(.., |(_, held)| !kept(held));
        told.extend(parks.map(|(id, _)| Written::Parked(id)));
        let operations = self.operations.extract_if(.., |(.., held)| !kept(held));
        told.extend(operations.map(|(ticket, ..)| Written::NotOperated(ticket)));
        let is_lost = |together: &mut Together| !together.arrivals.iter().all(|arrival| kept(&arrival.held));
        let admissions = self.admissions.extract_if(.., is_lost);
        told.extend(admissions.map(|Together { ticket, arrivals, .. }| Written::NotAdmitted { ticket, arrivals }));
        told
    }
}
