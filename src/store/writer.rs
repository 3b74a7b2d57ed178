//! The one writer: all that is ready at one moment goes into one transaction. No timers: a batch is what gathered while
//! the last one committed.
//!
//! Results go out in the order of their commits, over one channel; who follows it sees the store's history as it was.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::admit::{self, Admitted, Arrival};
use super::lease::Held;
use super::line::{self, Front, StoredEvent, Woken};
use super::members::Member;
use super::operator::{self, Verb};
use super::progress::{self, Settlement};
use super::stray::{self, Gathered};
use super::{Database, is_transient};
use crate::domain::admission::{Admission, FirstSequence};
use crate::domain::event::{Entity, EventId, Host};
use crate::domain::lanes::Candidate;
use crate::domain::lease::is_current;
use crate::host_limit::shared::Place;
use crate::reconnect::Delays;

/// Commands that one transaction takes at most.
const BATCH: usize = 1_024;
/// Arrivals that one transaction takes at most. Each may hold a lock on its entity until the commit, and the database has
/// room for a few thousand of all workers together.
const ARRIVALS: usize = 512;
/// Reads of lines that one transaction takes at most; each brings at most 16 KiB, or one event.
const FRONTS: usize = 64;
/// Reads of parked events that one transaction takes at most; each brings at most 4 MiB, or one event.
const UNPARKS: usize = 4;
/// A transaction that takes longer has lost its server.
const COMMIT_WITHIN: Duration = Duration::from_secs(30);

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
    /// Record what came of an attempt.
    Settle(Settlement),
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
        /// The event.
        id: EventId,
        /// What is decided.
        verb: Verb,
        /// On its partition.
        held: Held,
    },
    /// Look for events of our lines that came in by other partitions' queues.
    Gather {
        /// On all partitions that are looked at.
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
        /// The event.
        candidate: Candidate,
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
    /// An attempt is settled.
    Settled(Settlement),
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
    /// A partition was taken over; its former owner left these attempts in flight.
    TakenOver {
        /// On the partition.
        held: Held,
        /// The attempts.
        in_flight: Vec<StoredEvent>,
    },
}

/// The writer's settings.
pub struct Writer {
    /// Where to connect.
    pub database: Database,
    /// Who writes.
    pub member: Member,
    /// Which number a line begins with.
    pub first_sequence: FirstSequence,
}

impl Writer {
    /// Runs until the last sender of commands is gone and everything is written.
    ///
    /// # Errors
    /// One that is a mistake of this program: to try it again would never end.
    pub async fn run(
        self,
        mut commands: mpsc::Receiver<Command>,
        written: mpsc::Sender<Written>,
    ) -> Result<(), sqlx::Error> {
        let mut session =
            Session { writer: self, connection: None, delays: Delays::default(), commits: 0, unsettled: None };
        let mut waiting: Vec<Command> = Vec::new();
        loop {
            let room = BATCH.saturating_sub(waiting.len());
            if waiting.is_empty() {
                if commands.recv_many(&mut waiting, room).await == 0 {
                    return Ok(());
                }
            } else {
                // What the last transaction had no room for goes first, with all that came meanwhile.
                while waiting.len() < BATCH
                    && let Ok(command) = commands.try_recv()
                {
                    waiting.push(command);
                }
            }
            let (batch, rest) = Batch::gather(waiting);
            waiting = rest;
            for result in session.commit(batch).await? {
                if written.send(result).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

/// The commands of one transaction, by kind.
#[derive(Default)]
struct Batch {
    settlements: Vec<Settlement>,
    admissions: Vec<(Vec<Arrival>, oneshot::Sender<Vec<Admitted>>)>,
    parks: Vec<(EventId, Held)>,
    starts: Vec<(Candidate, Held)>,
    takeovers: Vec<Held>,
    operations: Vec<(EventId, Verb, Held)>,
    fronts: Vec<(Entity, Held)>,
    wakes: Vec<(EventId, u16, Held)>,
    unparks: Vec<(Host, usize, Vec<Held>)>,
    gathers: Vec<Vec<Held>>,
}

impl Batch {
    /// Sorts commands by kind; those beyond the limits of one transaction are given back.
    fn gather(commands: Vec<Command>) -> (Self, Vec<Command>) {
        let mut batch = Self::default();
        let (mut rest, mut full) = (Vec::new(), false);
        for command in commands {
            match command {
                Command::Admit { arrivals, reply } if !full && batch.arrivals() + arrivals.len() <= ARRIVALS => {
                    batch.admissions.push((arrivals, reply));
                }
                Command::Start { candidate, held } => batch.starts.push((candidate, held)),
                Command::Settle(settlement) => batch.settlements.push(settlement),
                Command::ReadFront { entity, held } if batch.fronts.len() < FRONTS => {
                    batch.fronts.push((entity, held));
                }
                Command::Wake { id, attempts, held } if batch.wakes.len() < FRONTS => {
                    batch.wakes.push((id, attempts, held));
                }
                Command::Park { id, held } => batch.parks.push((id, held)),
                Command::Unpark { host, limit, held } if batch.unparks.len() < UNPARKS => {
                    batch.unparks.push((host, limit, held));
                }
                Command::Operate { id, verb, held } => batch.operations.push((id, verb, held)),
                Command::Gather { held } => batch.gathers.push(held),
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

    fn arrivals(&self) -> usize {
        self.admissions.iter().map(|(arrivals, _)| arrivals.len()).sum()
    }

    fn held(&self) -> impl Iterator<Item = &Held> {
        let arrivals = self.admissions.iter().flat_map(|(arrivals, _)| arrivals).map(|arrival| &arrival.held);
        let settlements = self.settlements.iter().map(|settlement| &settlement.held);
        let fronts = self.fronts.iter().map(|(_, held)| held);
        let others = self.parks.iter().map(|(_, held)| held).chain(self.starts.iter().map(|(_, held)| held));
        let wakes = self.wakes.iter().map(|(.., held)| held);
        let looks = self.unparks.iter().map(|(.., held)| held).chain(&self.gathers).flatten();
        let operations = self.operations.iter().map(|(.., held)| held);
        let reads = fronts.chain(wakes).chain(looks);
        arrivals.chain(settlements).chain(others).chain(reads).chain(operations).chain(&self.takeovers)
    }

    /// Drops what is under a lost lease. Starts are told, because a permit hangs on each.
    fn drop_lost(&mut self) -> Vec<Written> {
        let kept = |held: &Held| !held.is_lost();
        self.settlements.retain(|settlement| kept(&settlement.held));
        self.admissions.retain(|(arrivals, _)| arrivals.iter().all(|arrival| kept(&arrival.held)));
        self.parks.retain(|(_, held)| kept(held));
        self.fronts.retain(|(_, held)| kept(held));
        self.wakes.retain(|(.., held)| kept(held));
        self.takeovers.retain(kept);
        self.operations.retain(|(.., held)| kept(held));
        for looked_at in self.unparks.iter_mut().map(|(.., held)| held).chain(&mut self.gathers) {
            looked_at.retain(kept);
        }
        let starts = std::mem::take(&mut self.starts);
        let (kept, lost): (Vec<_>, Vec<_>) = starts.into_iter().partition(|(_, held)| kept(held));
        self.starts = kept;
        lost.into_iter().map(|(candidate, _)| Written::NotStarted(candidate)).collect()
    }
}

/// What a transaction found out; valid once it has committed.
#[derive(Default)]
struct Found {
    settled: HashSet<EventId>,
    admitted: Vec<Admitted>,
    started: HashSet<EventId>,
    in_flight: Vec<Vec<StoredEvent>>,
    fronts: Vec<Front>,
    woken: Vec<Woken>,
    unparked: Vec<(Vec<StoredEvent>, bool)>,
    gathered: Vec<Gathered>,
}

enum Attempted {
    Done(Box<Found>),
    /// Some leases are lost: they are marked. Begin again without them.
    Fenced,
    /// Another worker recorded one of the keys meanwhile. Begin again.
    Collision,
}

struct Session {
    writer: Writer,
    connection: Option<PgConnection>,
    delays: Delays,
    /// Commits that were tried.
    commits: i64,
    /// The commit that was under way when the connection broke.
    unsettled: Option<i64>,
}

impl Session {
    /// Commits a batch, however long the database is away.
    async fn commit(&mut self, mut batch: Batch) -> Result<Vec<Written>, sqlx::Error> {
        let mut results = Vec::new();
        let mut last: Option<Box<Found>> = None;
        loop {
            results.extend(batch.drop_lost());
            let tried = tokio::time::timeout(COMMIT_WITHIN, self.try_once(&batch, &mut last)).await;
            match tried.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))) {
                Ok(Attempted::Done(found)) => {
                    self.delays.reset();
                    results.extend(report(batch, *found));
                    return Ok(results);
                }
                Ok(Attempted::Fenced | Attempted::Collision) => {}
                Err(error) if is_transient(&error) => {
                    if self.connection.take().is_some() {
                        tracing::warn!(%error, "the database is away; writing goes on when it is back");
                    }
                    self.delays.wait().await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One transaction. `last` keeps what it found, in case the connection breaks during the commit.
    async fn try_once(&mut self, batch: &Batch, last: &mut Option<Box<Found>>) -> Result<Attempted, sqlx::Error> {
        if self.connection.is_none() {
            self.connection = Some(self.writer.database.connect().await?);
        }
        let Some(connection) = self.connection.as_mut() else { return Ok(Attempted::Fenced) };
        if let Some(number) = self.unsettled {
            let committed = was_committed(connection, &self.writer.member, number).await?;
            self.unsettled = None;
            if let (true, Some(found)) = (committed, last.take()) {
                return Ok(Attempted::Done(found));
            }
        }
        if batch.held().next().is_none() {
            // Nothing is ours any more. Whoever asked for parked events is told that there are none.
            let unparked = batch.unparks.iter().map(|_| (Vec::new(), false)).collect();
            return Ok(Attempted::Done(Box::new(Found { unparked, ..Found::default() })));
        }
        let mut transaction = connection.begin().await?;
        if fence(&mut transaction, &self.writer.member, batch).await? {
            return Ok(Attempted::Fenced);
        }
        let Some(found) = apply(&mut transaction, batch, self.writer.first_sequence).await? else {
            return Ok(Attempted::Collision);
        };
        self.commits += 1;
        mark(&mut transaction, &self.writer.member, self.commits).await?;
        *last = Some(Box::new(found));
        self.unsettled = Some(self.commits);
        transaction.commit().await?;
        self.unsettled = None;
        Ok(last.take().map_or(Attempted::Collision, Attempted::Done))
    }
}

/// Whether the commit whose end is unknown took place. If it is still under way, its lock is waited for.
async fn was_committed(connection: &mut PgConnection, member: &Member, number: i64) -> Result<bool, sqlx::Error> {
    let last: Option<(i64,)> = sqlx::query_as("select number from writer_commit where member = $1 for update")
        .bind(member.id)
        .fetch_optional(connection)
        .await?;
    Ok(last.is_some_and(|(last,)| last >= number))
}

/// Numbers the commit.
async fn mark(connection: &mut PgConnection, member: &Member, number: i64) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into writer_commit (member, number) values ($1, $2) \
         on conflict (member) do update set number = excluded.number, at = clock_timestamp()",
    )
    .bind(member.id)
    .bind(number)
    .execute(connection)
    .await
    .map(drop)
}

/// Holds the leases of the batch until the commit, and marks those that have another owner or epoch. True if any lease
/// was lost.
async fn fence(connection: &mut PgConnection, member: &Member, batch: &Batch) -> Result<bool, sqlx::Error> {
    let partitions: HashSet<i32> = batch.held().map(|held| held.partition().0).collect();
    let rows: Vec<(i32, Option<Uuid>, i64)> =
        sqlx::query_as("select id, owner, epoch from partition where id = any($1) order by id for share")
            .bind(partitions.into_iter().collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
    let recorded: HashMap<i32, (Option<Uuid>, i64)> = rows.into_iter().map(|(id, o, epoch)| (id, (o, epoch))).collect();
    let mut fenced = false;
    for held in batch.held() {
        let (owner, epoch) = recorded.get(&held.partition().0).copied().unwrap_or_default();
        if !is_current((owner.as_ref(), epoch), (&member.id, held.epoch())) {
            held.lose();
            fenced = true;
        }
    }
    Ok(fenced)
}

/// Applies a batch: what ends first, then what comes in, then what begins, then what is read. None on a collision.
async fn apply(
    connection: &mut PgConnection,
    batch: &Batch,
    first: FirstSequence,
) -> Result<Option<Found>, sqlx::Error> {
    let mut found = Found::default();
    for held in &batch.takeovers {
        line::park_heads(connection, held.partition()).await?;
        found.in_flight.push(line::left_in_flight(connection, held.partition()).await?);
    }
    if !batch.settlements.is_empty() {
        let settlements: Vec<&Settlement> = batch.settlements.iter().collect();
        found.settled = progress::settle(connection, &settlements).await?.into_iter().collect();
    }
    if !batch.admissions.is_empty() {
        let arrivals: Vec<&Arrival> = batch.admissions.iter().flat_map(|(arrivals, _)| arrivals).collect();
        match admit::admit(connection, &arrivals, first).await? {
            Ok(admitted) => found.admitted = admitted,
            Err(admit::Collision) => return Ok(None),
        }
    }
    for (id, verb, held) in &batch.operations {
        operator::carry_out(connection, *id, *verb).await?;
        line::park_heads(connection, held.partition()).await?;
    }
    for held in &batch.gathers {
        found.gathered.push(stray::gather(connection, &numbers(held)).await?);
    }
    if !batch.parks.is_empty() {
        let ids: Vec<EventId> = batch.parks.iter().map(|(id, _)| *id).collect();
        line::park(connection, &ids).await?;
    }
    if !batch.starts.is_empty() {
        let starts: Vec<(EventId, u16)> = batch.starts.iter().map(|(c, _)| (c.id, c.attempts)).collect();
        found.started = progress::start(connection, &starts).await?.into_iter().collect();
    }
    for (entity, _) in &batch.fronts {
        found.fronts.push(line::read_front(connection, entity).await?);
    }
    if !batch.wakes.is_empty() {
        let tokens: Vec<(EventId, u16)> = batch.wakes.iter().map(|(id, attempts, _)| (*id, *attempts)).collect();
        found.woken = line::wake(connection, &tokens).await?;
    }
    for (host, limit, held) in &batch.unparks {
        found.unparked.push(line::unpark(connection, &numbers(held), host, *limit).await?);
    }
    Ok(Some(found))
}

fn numbers(held: &[Held]) -> Vec<i32> {
    held.iter().map(|held| held.partition().0).collect()
}

/// What followers are told of a committed batch, in the order in which it was applied.
fn report(batch: Batch, found: Found) -> Vec<Written> {
    let mut results = Vec::new();
    for (held, in_flight) in batch.takeovers.into_iter().zip(found.in_flight) {
        results.push(Written::TakenOver { held, in_flight });
    }
    for settlement in batch.settlements {
        if found.settled.contains(&settlement.candidate.id) {
            results.push(Written::Settled(settlement));
        }
    }
    let mut admitted = found.admitted.into_iter();
    for (arrivals, reply) in batch.admissions {
        let outcomes: Vec<Admitted> = admitted.by_ref().take(arrivals.len()).collect();
        results.extend(arrivals.into_iter().zip(&outcomes).filter_map(|(arrival, outcome)| recorded(arrival, outcome)));
        // Nobody listens any more if the broker's connection is gone: the messages come again, as duplicates.
        let _ = reply.send(outcomes);
    }
    results
        .extend(found.gathered.into_iter().map(|Gathered { entities, hosts }| Written::Gathered { entities, hosts }));
    for (mut candidate, held) in batch.starts {
        results.push(if found.started.contains(&candidate.id) {
            candidate.attempts += 1;
            Written::Started { candidate, held }
        } else {
            Written::NotStarted(candidate)
        });
    }
    results.extend(found.fronts.into_iter().map(Written::Front));
    results.extend(found.woken.into_iter().map(Written::Woken));
    for ((host, ..), (events, more)) in batch.unparks.into_iter().zip(found.unparked) {
        results.push(Written::Unparked { host, events, more });
    }
    results
}

fn recorded(arrival: Arrival, outcome: &Admitted) -> Option<Written> {
    let Admission::Join { head, others_open, home } = outcome.admission else { return None };
    let mut event = arrival.event;
    if event.partition != home {
        // Its line is another partition's. That may be ours, too; if it is not, there is no lane for it here.
        Arc::make_mut(&mut event).partition = home;
    }
    let candidate = Candidate { id: outcome.id?, attempts: 0, event };
    Some(Written::Recorded { candidate, head, others_open, place: arrival.place })
}
