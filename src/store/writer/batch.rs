//! What the writer is asked to do, what it answers, and the commands of one transaction between the two.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::oneshot;

use super::super::admit::{Admitted, Arrival};
use super::super::audit::{Confirmed, Suspect};
use super::super::lease::Held;
use super::super::line::{Front, StoredEvent, Woken};
use super::super::operator::Decided;
use super::super::progress::Settlement;
use super::super::stray::Gathered;
use crate::domain::admission::Admission;
use crate::domain::event::{Entity, EventId, Host, Partition};
use crate::domain::lanes::{Candidate, Then};
use crate::domain::volume::Volume;
use crate::host_limit::shared::Place;

/// Arrivals that one transaction takes at most. Each may hold a lock on its entity until the commit, and the database has
/// room for a few thousand of all workers together.
const ARRIVALS: usize = 512;
/// Reads of parked events that one transaction takes at most; each brings at most 4 MiB, or one event.
const UNPARKS: usize = 4;
/// What the writer is asked to do.
pub enum Command {
    /// Record arrivals.
    Admit {
        /// In the order of arrival.
        arrivals: Vec<Arrival>,
        /// Told what became of each; dropped if the lease is lost.
        reply: oneshot::Sender<Vec<Admitted>>,
    },
    /// Record that an attempt begins.
    Start {
        /// The event, with the attempts begun so far.
        candidate: Candidate,
        /// On its partition.
        held: Held,
    },
    /// Record what came of an attempt, and go on with its line.
    Settle {
        /// What came of it.
        settlement: Settlement,
        /// If it ends in a final state that frees its line.
        then: Then,
    },
    /// Read the front of a line.
    ReadFront {
        /// Whose line.
        entity: Entity,
        /// On its partition.
        held: Held,
    },
    /// Look whether an event's next attempt is due.
    Wake {
        /// The event.
        id: EventId,
        /// Attempts begun so far.
        attempts: u16,
        /// On its partition.
        held: Held,
    },
    /// Let an event wait for its host in the store.
    Park {
        /// The event.
        id: EventId,
        /// On its partition.
        held: Held,
    },
    /// Read parked events of a host.
    Unpark {
        /// The host.
        host: Host,
        /// Events at most.
        limit: usize,
        /// On all partitions that are looked at.
        held: Vec<Held>,
    },
    /// Carry out an operator's decision on a FAILED event.
    Operate {
        /// What is decided.
        decided: Decided,
        /// On its partition.
        held: Held,
        /// Told when it is recorded.
        done: oneshot::Sender<()>,
    },
    /// Look for events of our lines that came in by other partitions' queues.
    Gather {
        /// On all partitions that are looked at.
        held: Vec<Held>,
    },
    /// Look once more at open events that somebody should have in hand.
    Audit {
        /// The events.
        suspects: Vec<Suspect>,
        /// On all of their partitions.
        held: Vec<Held>,
    },
    /// Take over a partition: see what its former owner left.
    TakeOver {
        /// On the partition.
        held: Held,
    },
}

/// What the writer has done.
pub enum Written {
    /// An arrival was recorded.
    Recorded {
        /// The event; its attempts count one that was recorded with it, and may be sent.
        candidate: Candidate,
        /// On the partition that it came by.
        held: Held,
        /// Nothing of its entity has to become final before it.
        head: bool,
        /// The entity had other open events.
        others_open: bool,
        /// Its place in memory. A head without one was recorded as parked.
        place: Option<Place>,
    },
    /// An attempt may be sent; the candidate counts it.
    Started {
        /// The event.
        candidate: Candidate,
        /// On its partition.
        held: Held,
    },
    /// An attempt may not be sent: the event is not where it was thought to be, or the lease is lost.
    NotStarted(Candidate),
    /// The store has the event otherwise than this settlement: nothing was recorded.
    NotSettled(Candidate),
    /// An attempt is settled. What was asked for with it follows: [`Self::Started`] or [`Self::NotStarted`], or
    /// [`Self::Front`].
    Settled {
        /// What came of it.
        settlement: Settlement,
        /// What was done with it: nothing, where a read had no room in the transaction.
        then: Then,
    },
    /// The front of a line was read.
    Front(Front),
    /// A wake-up found something.
    Woken(Woken),
    /// Parked events of a host were read.
    Unparked {
        /// The host.
        host: Host,
        /// In the order of recording.
        events: Vec<StoredEvent>,
        /// There may be more.
        more: bool,
    },
    /// These entities' lines go on with events that came in by other partitions' queues; those that were heads are parked
    /// at these hosts.
    Gathered {
        /// Whose lines.
        entities: Vec<Entity>,
        /// Where something was parked.
        hosts: Vec<Host>,
    },
    /// Open events were looked at once more.
    Audited(Confirmed),
    /// A partition was taken over.
    TakenOver {
        /// On the partition.
        held: Held,
        /// Attempts that its former owner left in flight.
        in_flight: Vec<StoredEvent>,
        /// Where heads of its lines are parked; a sweep finds those beyond the limit.
        hosts: Vec<Host>,
    },
}

/// An attempt that is to begin.
pub(super) struct Start {
    pub(super) candidate: Candidate,
    held: Held,
    /// Only if this one becomes final in the same transaction.
    pub(super) after: Option<EventId>,
}

/// The commands of one transaction, by kind.
#[derive(Default)]
pub(super) struct Batch {
    /// Reads of lines, and of events that are due, that it takes at most.
    reads: usize,
    settlements: Vec<(Settlement, Then)>,
    pub(super) admissions: Vec<(Vec<Arrival>, oneshot::Sender<Vec<Admitted>>)>,
    pub(super) parks: Vec<(EventId, Held)>,
    pub(super) starts: Vec<Start>,
    pub(super) takeovers: Vec<Held>,
    pub(super) operations: Vec<(Decided, Held, oneshot::Sender<()>)>,
    pub(super) fronts: Vec<(Entity, Held)>,
    pub(super) wakes: Vec<(EventId, u16, Held)>,
    pub(super) unparks: Vec<(Host, usize, Vec<Held>)>,
    pub(super) gathers: Vec<Vec<Held>>,
    pub(super) audits: Vec<(Vec<Suspect>, Vec<Held>)>,
}

impl Batch {
    /// Sorts commands by kind; those beyond the limits of one transaction are given back. Of bodies, it takes what `volume`
    /// allows, or what came first. A read of a line brings at most 16 KiB, or one event.
    pub(super) fn gather(commands: Vec<Command>, volume: Volume) -> (Self, Vec<Command>) {
        let mut batch = Self { reads: volume.reads(), ..Self::default() };
        let (mut rest, mut full) = (Vec::new(), false);
        for command in commands {
            match command {
                Command::Admit { mut arrivals, reply } if !full && batch.has_room_for(&arrivals, volume.limit()) => {
                    let first = batch.arrivals();
                    arrivals.iter_mut().enumerate().for_each(|(place, arrival)| arrival.number = first + place);
                    batch.admissions.push((arrivals, reply));
                }
                Command::Start { candidate, held } => batch.starts.push(Start { candidate, held, after: None }),
                Command::Settle { settlement, then } => batch.settle(settlement, then),
                Command::ReadFront { entity, held } if batch.fronts.len() < batch.reads => {
                    batch.fronts.push((entity, held));
                }
                Command::Wake { id, attempts, held } if batch.wakes.len() < batch.reads => {
                    batch.wakes.push((id, attempts, held));
                }
                Command::Park { id, held } => batch.parks.push((id, held)),
                Command::Unpark { host, limit, held } if batch.unparks.len() < UNPARKS => {
                    batch.unparks.push((host, limit, held));
                }
                Command::Operate { decided, held, done } => batch.operations.push((decided, held, done)),
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
    pub(super) fn shed(&mut self, volume: Volume) -> Vec<Command> {
        let commands = std::mem::take(&mut self.admissions).into_iter();
        let commands = commands.map(|(arrivals, reply)| Command::Admit { arrivals, reply });
        let (kept, mut beyond) = Self::gather(commands.collect(), volume);
        self.admissions = kept.admissions;
        let reads = volume.reads();
        let fronts = self.fronts.split_off(reads.min(self.fronts.len()));
        beyond.extend(fronts.into_iter().map(|(entity, held)| Command::ReadFront { entity, held }));
        let wakes = self.wakes.split_off(reads.min(self.wakes.len()));
        beyond.extend(wakes.into_iter().map(|(id, attempts, held)| Command::Wake { id, attempts, held }));
        let unparks = self.unparks.split_off(1.min(self.unparks.len()));
        beyond.extend(unparks.into_iter().map(|(host, limit, held)| Command::Unpark { host, limit, held }));
        beyond
    }

    /// The largest body that is to be recorded.
    pub(super) fn largest(&self) -> usize {
        self.arrived().map(Arrival::bytes).max().unwrap_or(0)
    }

    fn has_room_for(&self, arrivals: &[Arrival], volume: usize) -> bool {
        let bytes = arrivals.iter().map(Arrival::bytes).sum::<usize>();
        let fits = self.arrivals() + arrivals.len() <= ARRIVALS && self.bytes() + bytes <= volume;
        fits || self.admissions.is_empty()
    }

    /// Of all bodies.
    pub(super) fn bytes(&self) -> usize {
        self.arrived().map(Arrival::bytes).sum()
    }

    fn arrivals(&self) -> usize {
        self.admissions.iter().map(|(arrivals, _)| arrivals.len()).sum()
    }

    /// Lets first attempts begin with the record of their events, where hosts have room.
    pub(super) fn begin_attempts(&mut self) {
        let arrivals = self.admissions.iter_mut().flat_map(|(arrivals, _)| arrivals);
        let ours = arrivals.filter(|arrival| arrival.held.lease().is_taken_over());
        ours.filter_map(|arrival| arrival.place.as_mut()).for_each(Place::begin);
    }

    pub(super) fn settlements(&self) -> impl Iterator<Item = &Settlement> {
        self.settlements.iter().map(|(settlement, _)| settlement)
    }

    pub(super) fn arrived(&self) -> impl Iterator<Item = &Arrival> {
        self.admissions.iter().flat_map(|(arrivals, _)| arrivals)
    }

    pub(super) fn arrived_mut(&mut self) -> impl Iterator<Item = &mut Arrival> {
        self.admissions.iter_mut().flat_map(|(arrivals, _)| arrivals)
    }

    /// How much there is to do: each arrival counts.
    pub(super) fn commands(&self) -> usize {
        let changes = self.arrivals() + self.settlements.len() + self.starts.len() + self.parks.len();
        let reads = self.fronts.len() + self.wakes.len() + self.unparks.len() + self.gathers.len() + self.audits.len();
        changes + reads + self.operations.len() + self.takeovers.len()
    }

    pub(super) fn held(&self) -> impl Iterator<Item = &Held> {
        let arrivals = self.arrived().map(|arrival| &arrival.held);
        let settlements = self.settlements().map(|settlement| &settlement.held);
        let fronts = self.fronts.iter().map(|(_, held)| held);
        let others = self.parks.iter().map(|(_, held)| held).chain(self.starts.iter().map(|start| &start.held));
        let wakes = self.wakes.iter().map(|(.., held)| held);
        let audits = self.audits.iter().map(|(_, held)| held);
        let looks = self.unparks.iter().map(|(.., held)| held).chain(&self.gathers).chain(audits).flatten();
        let operations = self.operations.iter().map(|(_, held, _)| held);
        let reads = fronts.chain(wakes).chain(looks);
        arrivals.chain(settlements).chain(others).chain(reads).chain(operations).chain(&self.takeovers)
    }

    /// Drops what is under a lost lease. Starts are told, because a permit hangs on each.
    pub(super) fn drop_lost(&mut self) -> Vec<Written> {
        let kept = |held: &Held| !held.is_lost();
        self.settlements.retain(|(settlement, _)| kept(&settlement.held));
        self.admissions.retain(|(arrivals, _)| arrivals.iter().all(|arrival| kept(&arrival.held)));
        self.parks.retain(|(_, held)| kept(held));
        self.fronts.retain(|(_, held)| kept(held));
        self.wakes.retain(|(.., held)| kept(held));
        self.takeovers.retain(kept);
        self.operations.retain(|(_, held, _)| kept(held));
        // A suspect of a partition that is lost is the next owner's.
        self.audits.retain(|(_, held)| held.iter().all(kept));
        for looked_at in self.unparks.iter_mut().map(|(.., held)| held).chain(&mut self.gathers) {
            looked_at.retain(kept);
        }
        let starts = std::mem::take(&mut self.starts);
        let (kept, lost): (Vec<_>, Vec<_>) = starts.into_iter().partition(|start| kept(&start.held));
        self.starts = kept;
        lost.into_iter().map(|start| Written::NotStarted(start.candidate)).collect()
    }
}

/// What a transaction found out; valid once it has committed. Each finding says what it belongs to.
#[derive(Default)]
pub(super) struct Found {
    pub(super) settled: HashSet<EventId>,
    /// By the arrivals' places in the batch.
    pub(super) admitted: HashMap<usize, Admitted>,
    pub(super) started: HashSet<EventId>,
    pub(super) taken_over: HashMap<Partition, (Vec<StoredEvent>, Vec<Host>)>,
    pub(super) fronts: Vec<Front>,
    pub(super) woken: Vec<Woken>,
    pub(super) unparked: HashMap<Host, (Vec<StoredEvent>, bool)>,
    pub(super) gathered: Vec<Gathered>,
    pub(super) audited: Vec<Confirmed>,
}

impl Found {
    /// The largest body that was read.
    pub(super) fn largest(&self) -> usize {
        let fronts = self.fronts.iter().flat_map(|front| &front.events);
        let woken = self.woken.iter().filter_map(|woken| match woken {
            Woken::Due { event, .. } => Some(event),
            Woken::Early { .. } => None,
        });
        let unparked = self.unparked.values().flat_map(|(events, _)| events);
        fronts.chain(woken).chain(unparked).map(|event| event.body.len()).max().unwrap_or(0)
    }
}

/// What followers are told of a committed batch, in the order in which it was applied.
pub(super) fn report(batch: Batch, mut found: Found) -> Vec<Written> {
    let mut results = Vec::new();
    for held in batch.takeovers {
        let Some((in_flight, hosts)) = found.taken_over.remove(&held.partition()) else { continue };
        held.lease().note_taken_over();
        results.push(Written::TakenOver { held, in_flight, hosts });
    }
    for (settlement, then) in batch.settlements {
        results.push(if found.settled.contains(&settlement.candidate.id) {
            Written::Settled { settlement, then }
        } else {
            Written::NotSettled(settlement.candidate)
        });
    }
    for (arrivals, reply) in batch.admissions {
        let outcomes: Option<Vec<Admitted>> =
            arrivals.iter().map(|arrival| found.admitted.get(&arrival.number).cloned()).collect();
        // Without them, the lease is lost: the messages come again, to its next owner.
        let Some(outcomes) = outcomes else { continue };
        results.extend(arrivals.into_iter().zip(&outcomes).filter_map(|(arrival, outcome)| recorded(arrival, outcome)));
        // Nobody listens any more if the broker's connection is gone: the messages come again, as duplicates.
        let _ = reply.send(outcomes);
    }
    for (.., done) in batch.operations {
        // Nobody listens any more if the broker's connection is gone: the decision comes again, and is void.
        let _ = done.send(());
    }
    results
        .extend(found.gathered.into_iter().map(|Gathered { entities, hosts }| Written::Gathered { entities, hosts }));
    for Start { mut candidate, held, .. } in batch.starts {
        results.push(if found.started.contains(&candidate.id) {
            candidate.attempts += 1;
            Written::Started { candidate, held }
        } else {
            Written::NotStarted(candidate)
        });
    }
    results.extend(found.fronts.into_iter().map(Written::Front));
    results.extend(found.woken.into_iter().map(Written::Woken));
    for (host, ..) in batch.unparks {
        // Whoever asked for parked events is told if there are none.
        let (events, more) = found.unparked.remove(&host).unwrap_or_default();
        results.push(Written::Unparked { host, events, more });
    }
    results.extend(found.audited.into_iter().map(Written::Audited));
    results
}

fn recorded(arrival: Arrival, outcome: &Admitted) -> Option<Written> {
    let Admission::Join { head, others_open, home } = outcome.admission else { return None };
    let attempts = outcome.begins(&arrival).into();
    let mut event = arrival.event;
    if event.partition != home {
        // Its line is another partition's. That may be ours, too; if it is not, there is no lane for it here.
        Arc::make_mut(&mut event).partition = home;
    }
    let candidate = Candidate { id: outcome.id?, attempts, unknown: 0, event };
    Some(Written::Recorded { candidate, held: arrival.held, head, others_open, place: arrival.place })
}
