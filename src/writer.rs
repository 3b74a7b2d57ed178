//! The one writer: all that is ready at one moment goes into one transaction. No timers: a batch is what gathered while
//! the last one committed.
//!
//! Results go out in the order of their commits, over one channel; who follows it sees the store's history as it was.

pub(crate) mod batch;
pub(crate) mod found;
mod link;
mod restore;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::sync::mpsc;

use self::batch::Batch;
use self::found::{Found, report};
use self::link::{Link, REST};
use crate::clock;
use crate::domain::admission::FirstSequence;
use crate::domain::candidate::Candidate;
use crate::domain::event::{Entity, EventId, Host, Partition};
use crate::domain::lease::is_current;
use crate::domain::volume::Volume;
use crate::engine::command::Unpark;
use crate::handoff::{Arrival, Command, Settlement, Written};
use crate::lease::Held;
use crate::reconnect::Delays;
use crate::standstill::Standstill;
use crate::store::admit::{self, Keys};
use crate::store::floor::Floors;
use crate::store::members::Member;
use crate::store::opening::{self, Opened, Opening};
use crate::store::{Database, audit, cause, commits, explain, is_transient, line, operator, progress, stray};
use crate::telemetry::{metrics, trace};

/// Commands that one transaction takes at most.
const BATCH: usize = 1_024;
/// Hosts that one takeover names at most.
const HOSTS: i64 = 100;
/// After a key that was recorded before, so many commits look keys up first: duplicates come in swarms.
const LOOK_UPS: u32 = 100;
/// A transaction that takes longer has lost its server.
const COMMIT_WITHIN: Duration = Duration::from_secs(30);
/// A commit that takes longer is told.
const SLOW: Duration = Duration::from_secs(2);

/// The writer's settings.
pub struct Writer {
    /// Where to connect.
    pub database: Database,
    /// Who writes.
    pub member: Member,
    /// Which number a line begins with.
    pub first_sequence: FirstSequence,
    /// How long the bodies of one transaction may take on their way: a part of the time after which the server gives up a
    /// session that says nothing.
    pub target: Duration,
    /// Why nothing can be recorded, as long as it is so.
    pub recording: Arc<Standstill>,
}

/// Notes that a commit takes long, while it does: somebody's lock, or a slow disk, fails nothing.
async fn told_if_slow<T>(recording: &Standstill, committing: impl Future<Output = T>) -> T {
    let mut committing = pin!(committing);
    if let Ok(committed) = tokio::time::timeout(SLOW, &mut committing).await {
        return committed;
    }
    let why = "the database takes long for a commit: it waits for a lock, or its disk is slow";
    if recording.begin(why.into()) {
        tracing::warn!("nothing is recorded: {why}");
    }
    committing.await
}

impl Writer {
    /// Runs until the last sender of commands is gone and everything is written.
    ///
    /// # Errors
    /// One that is a mistake of this program: to try it again would never end.
    pub async fn run(
        self,
        mut commands: mpsc::Receiver<Command>,
        written: mpsc::Sender<Vec<Written>>,
    ) -> Result<(), sqlx::Error> {
        let mut session = Session {
            volume: Volume::new(self.target),
            writer: self,
            link: None,
            delays: Delays::default(),
            commits: 0,
            look_ups: LOOK_UPS,
            floors: Floors::default(),
            doubt: None,
        };
        let mut waiting: Vec<Command> = Vec::new();
        loop {
            let room = BATCH.saturating_sub(waiting.len());
            if waiting.is_empty() {
                if session.rest_until(commands.recv_many(&mut waiting, room)).await == 0 {
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
            let (batch, rest) = Batch::gather(waiting, session.volume);
            let (results, beyond) = session.commit(batch).await?;
            // In the order of arrival.
            waiting = beyond;
            waiting.extend(rest);
            if written.send(results).await.is_err() {
                return Ok(());
            }
        }
    }
}

enum Attempted {
    Done(Box<Found>),
    /// Begin again: without the leases that are lost and marked, or now that it is known that a commit did not take place.
    Again,
    /// One of the keys is recorded already. Begin again, with a look at them.
    Collision,
}

struct Session {
    /// How much of bodies one transaction takes.
    volume: Volume,
    writer: Writer,
    link: Option<Link>,
    delays: Delays,
    /// Commits that were tried.
    commits: i64,
    /// Commits that are still to look keys up first.
    look_ups: u32,
    /// Where lines go on.
    floors: Floors,
    /// The commit whose answer has not come (yet).
    doubt: Option<Doubt>,
}

/// A commit that was asked for and not answered: nobody knows whether it took place. As long as there is one, its batch stays
/// as it is, whatever becomes of the leases: what it found belongs to the commands that it was made of.
struct Doubt {
    number: i64,
    found: Box<Found>,
}

impl Session {
    /// Waits for work, without a transaction if that takes long.
    async fn rest_until<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let Some(link) = self.link.as_mut().filter(|link| link.is_open()) else { return work.await };
        if let Ok(work) = tokio::time::timeout(REST, &mut work).await {
            return work;
        }
        if !matches!(tokio::time::timeout(COMMIT_WITHIN, link.rest()).await, Ok(Ok(()))) {
            self.link = None;
        }
        work.await
    }

    /// Commits a batch, however long that takes. Gives what turned out to be too much for one transaction.
    async fn commit(&mut self, mut batch: Batch) -> Result<(Vec<Written>, Vec<Command>), sqlx::Error> {
        let (mut results, mut beyond) = (Vec::new(), Vec::new());
        let mut failed = false;
        loop {
            if self.doubt.is_none() {
                results.extend(batch.drop_lost());
                if failed {
                    let shed = batch.shed(self.volume);
                    beyond.splice(0..0, shed);
                    failed = false;
                }
            }
            let began = clock::now();
            let recording = self.writer.recording.clone();
            let tried = told_if_slow(&recording, self.try_for_a_while(&batch)).await;
            match tried {
                Ok(Attempted::Done(found)) => {
                    self.delays.reset();
                    if let Some(lasted) = self.writer.recording.end() {
                        tracing::info!(seconds = lasted.as_secs_f64(), "recording goes on");
                    }
                    self.look_ups = self.look_ups.saturating_sub(1);
                    let took = clock::now().saturating_sub(began);
                    self.volume.committed(batch.bytes(), batch.largest().max(found.largest()), took);
                    metrics::committed(batch.commands(), took);
                    trace::transacted("commit", "ok", took, clock::time_of_day());
                    for settlement in batch.settlements().filter(|settlement| settlement.frees_the_line()) {
                        let candidate = &settlement.candidate;
                        if found.settled.contains(&candidate.id) {
                            self.floors.raise(&candidate.event, candidate.id);
                        }
                    }
                    results.extend(report(batch, *found));
                    return Ok((results, beyond));
                }
                Ok(Attempted::Again) => {}
                Ok(Attempted::Collision) => self.look_ups = LOOK_UPS,
                Err(error) if is_transient(&error) => {
                    self.volume.failed(batch.bytes());
                    failed = true;
                    let had_link = self.link.take().is_some();
                    if self.writer.recording.begin(cause(&error)) || had_link {
                        tracing::warn!("nothing is recorded: {}; it is tried again", cause(&error));
                    }
                    self.delays.wait().await;
                }
                Err(error) => {
                    self.link = None;
                    if self.doubt.is_some() || !self.set_aside(&mut batch).await {
                        tracing::error!(error = explain(&error), "the database refuses a commit; it is tried again");
                        self.writer.recording.begin(cause(&error));
                        self.delays.wait().await;
                    }
                }
            }
        }
    }

    /// Looks which arrivals the database can't hold, each by itself, and marks them. True if there is any.
    async fn set_aside(&mut self, batch: &mut Batch) -> bool {
        let probing = async {
            let mut connection = self.writer.database.connect().await?;
            admit::mark_unstorable(&mut connection, batch.arrived_mut()).await
        };
        matches!(tokio::time::timeout(COMMIT_WITHIN, probing).await, Ok(Ok(true)))
    }

    /// One transaction, unless it takes too long, or its server turns out to be one that another has taken over from.
    async fn try_for_a_while(&mut self, batch: &Batch) -> Result<Attempted, sqlx::Error> {
        let leases = self.writer.database.leases().clone();
        self.link.take_if(|link| !leases.is(link.server));
        let moved = leases.moved_from(self.link.as_ref().map(|link| link.server));
        let tried = tokio::time::timeout(COMMIT_WITHIN, self.try_once(batch));
        tokio::select! {
            biased;
            tried = tried => tried.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))),
            moved = moved => Err(moved),
        }
    }

    /// One transaction.
    async fn try_once(&mut self, batch: &Batch) -> Result<Attempted, sqlx::Error> {
        let link = match &mut self.link {
            Some(link) => link,
            none => {
                self.floors.clear();
                none.insert(Link::connect(&self.writer.database.limited_to(COMMIT_WITHIN)).await?)
            }
        };
        if let Some(doubt) = &self.doubt {
            let committed = commits::was_committed(&mut link.connection, &self.writer.member, doubt.number).await?;
            let found = self.doubt.take().filter(|_| committed).map(|doubt| doubt.found);
            return Ok(found.map_or(Attempted::Again, Attempted::Done));
        }
        if batch.held().next().is_none() {
            // Nothing is ours any more.
            return Ok(Attempted::Done(Box::default()));
        }
        self.commits += 1;
        let keys = if self.look_ups > 0 { Keys::LookUp } else { Keys::TakeAsNew };
        let transaction = link.transaction().await?;
        let taken_over = take_over(transaction, batch).await?;
        let Some(opened) = open(transaction, &self.writer.member, self.commits, batch).await? else {
            link.roll_back().await?;
            return Ok(Attempted::Again);
        };
        let found = Found { taken_over, ..Found::default() };
        let terms = (self.writer.first_sequence, keys, &self.floors);
        let Some(found) = apply(transaction, batch, opened, terms, found).await? else {
            link.roll_back().await?;
            return Ok(Attempted::Collision);
        };
        self.doubt = Some(Doubt { number: self.commits, found: Box::new(found) });
        link.commit().await?;
        let found = self.doubt.take().map(|doubt| doubt.found).unwrap_or_default();
        Ok(Attempted::Done(found))
    }
}

/// Opens the transaction. None if any lease of the batch has another owner or epoch: those are marked, and the transaction has
/// to be rolled back.
async fn open(
    connection: &mut PgConnection,
    member: &Member,
    number: i64,
    batch: &Batch,
) -> Result<Option<Opened>, sqlx::Error> {
    let opening = Opening {
        partitions: batch.held().map(Held::partition).collect(),
        entities: batch.arrived().map(|arrival| &arrival.event.entity).collect(),
        finals: batch.settlements().filter(|settlement| settlement.frees_the_line()).collect(),
        starts: batch.starts.iter().map(|start| (start.candidate.id, start.candidate.attempts, start.after)).collect(),
    };
    let opened = opening::open(connection, member, number, opening).await?;
    let mut ours = true;
    for held in batch.held() {
        let (owner, epoch) = opened.leases.get(&held.partition()).copied().unwrap_or_default();
        if !is_current((owner.as_ref(), epoch), (&member.id, held.epoch())) {
            held.lose();
            ours = false;
        }
    }
    Ok(ours.then_some(opened))
}

/// Looks at what former owners left, before anything of ours begins. The fence follows, and undoes it if a lease is lost.
async fn take_over(
    connection: &mut PgConnection,
    batch: &Batch,
) -> Result<HashMap<Partition, (Vec<Candidate>, Vec<Host>)>, sqlx::Error> {
    let mut taken_over = HashMap::new();
    for held in &batch.takeovers {
        line::park_heads(connection, held.partition()).await?;
        let in_flight = line::left_in_flight(connection, held.partition()).await?;
        let hosts = line::parked_hosts(connection, &[held.partition().0], HOSTS).await?;
        taken_over.insert(held.partition(), (restore::all(&in_flight), hosts));
    }
    Ok(taken_over)
}

/// Applies a batch behind its opening: what doesn't end yet, then what comes in, then what is read. None on a collision.
async fn apply(
    connection: &mut PgConnection,
    batch: &Batch,
    opened: Opened,
    (first, keys, floors): (FirstSequence, Keys, &Floors),
    mut found: Found,
) -> Result<Option<Found>, sqlx::Error> {
    let settlements: Vec<&Settlement> = batch.settlements().collect();
    found.settled = progress::settle(connection, &settlements, opened.finished).await?;
    found.started.extend(opened.started);
    if !batch.admissions.is_empty() {
        let (numbers, arrivals): (Vec<usize>, Vec<&Arrival>) = batch.numbered().unzip();
        match admit::admit(connection, &arrivals, first, keys, floors).await? {
            Ok(admitted) => found.admitted = numbers.into_iter().zip(admitted).collect(),
            Err(admit::Collision) => return Ok(None),
        }
    }
    for (_, decided, held) in &batch.operations {
        operator::carry_out(connection, decided).await?;
        line::park_heads(connection, held.partition()).await?;
    }
    for held in &batch.gathers {
        found.gathered.push(stray::gather(connection, &numbers(held)).await?);
    }
    if !batch.parks.is_empty() {
        let ids: Vec<EventId> = batch.parks.iter().map(|(id, _)| *id).collect();
        line::park(connection, &ids).await?;
    }
    if !batch.fronts.is_empty() {
        let entities: Vec<&Entity> = batch.fronts.iter().map(|(entity, _)| entity).collect();
        let fronts = line::read_fronts(connection, &entities, floors).await?;
        found.fronts = fronts.into_iter().map(restore::front).collect();
    }
    if !batch.wakes.is_empty() {
        let tokens: Vec<_> = batch.wakes.iter().map(|(token, _)| *token).collect();
        let woken = line::wake(connection, &tokens).await?;
        found.woken = woken.into_iter().filter_map(restore::woken).collect();
    }
    for Unpark { host, which, but, held } in &batch.unparks {
        let (events, more) = line::unpark(connection, &numbers(held), host, *which, but).await?;
        found.unparked.push((restore::all(&events), more));
    }
    for (suspects, _) in &batch.audits {
        found.audited.push(restore::confirmed(audit::confirm(connection, suspects).await?));
    }
    Ok(Some(found))
}

fn numbers(held: &[Held]) -> Vec<i32> {
    held.iter().map(|held| held.partition().0).collect()
}
