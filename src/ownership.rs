//! Keeps this worker's place among the others: its leases, its share of the cap on a host, and which partitions it takes
//! and gives up. What should be whose is decided in [`crate::domain::shares`].

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use sqlx::PgConnection;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::clock;
use crate::domain::event::Partition;
use crate::domain::lease::{Look, Sightings, counts_until};
use crate::domain::shares::{self, Plan};
use crate::engine::input::Cap;
use crate::handoff::CapSetter;
use crate::health::Health;
use crate::lease::{Lease, Released, Standing};
use crate::reconnect::Delays;
use crate::store::members::{self, Claimed, Member, View};
use crate::store::{self, Database};
use crate::telemetry::transaction;

/// How often a worker looks at the others, whether or not it was told of a change.
const LOOK: Duration = Duration::from_millis(500);
/// Or so often within a lease, if that is short: the others are watched without a gap.
const LOOKS_IN_A_LEASE: u32 = 10;
/// How often a worker that has to give back a part of its share looks whether that is free.
const LOOK_AT_SHARE: Duration = Duration::from_millis(10);
/// How often older programs are kept from this worker's partitions: well within the time that these wait.
const KEEP_FROM_OLDER: Duration = Duration::from_mins(2);
/// A lease is renewed when this part of it is over: soon enough for three tries.
const RENEW_PART: u32 = 4;

/// The place of one worker among the others.
pub struct Ownership {
    /// A connection of its own: nothing else in the worker can hold up a renewal.
    pub database: Database,
    /// Who we are.
    pub member: Member,
    /// How long a lease holds without renewal.
    pub lease: Duration,
    /// To the engine: the share of the cap.
    pub cap: CapSetter,
    /// Told of renewals.
    pub health: Arc<Health>,
    /// To dispatch, intake and rescue: all leases that are not given back yet.
    pub owned: watch::Sender<Vec<Arc<Lease>>>,
}

impl Ownership {
    /// Takes part until `stop`; then gives every partition back as soon as nothing is at work under its lease.
    pub async fn run(self, stop: CancellationToken) {
        let told = Notify::new();
        let pool = self.database.pool();
        let listening = async {
            let mut delays = Delays::default();
            loop {
                // Unheard, changes are found by looking.
                if let Ok(mut listener) = members::listen(&pool).await {
                    delays.reset();
                    while listener.recv().await.is_ok() {
                        told.notify_one();
                    }
                }
                delays.wait().await;
            }
        };
        let keeping = async {
            let mut keeper = Keeper::new(&self);
            let mut pause = Duration::ZERO;
            loop {
                tokio::select! {
                    () = stop.cancelled(), if !keeper.leaving => keeper.begin_to_leave(),
                    () = told.notified() => {}
                    () = keeper.standing.fenced() => {}
                    Some(lease) = keeper.closing.next() => keeper.note_unused(&lease),
                    () = tokio::time::sleep(pause) => {}
                }
                pause = keeper.turn().await;
                if keeper.leaving && keeper.has_nothing_left() {
                    return keeper.leave().await;
                }
            }
        };
        tokio::select! {
            () = keeping => {}
            () = listening => {}
        }
    }
}

/// The state of a worker's place.
struct Keeper<'a> {
    us: &'a Ownership,
    connection: Option<PgConnection>,
    standing: Standing,
    /// When the last renewal that succeeded was asked for.
    renewed: Option<Duration>,
    /// The share of the cap that the database has for us.
    host_share: u16,
    /// Leases that were closed, until nothing is at work under them.
    closing: FuturesUnordered<BoxFuture<'static, Arc<Lease>>>,
    /// Leases under which nothing is at work (any more): to be given back.
    unused: Vec<Released>,
    /// What was seen of the others' renewals.
    sightings: Sightings<Uuid>,
    /// When older programs were last kept from our partitions.
    kept_from_older: Duration,
    leaving: bool,
    told_leaving: bool,
    standing_by: bool,
    /// The number of partitions after the last turn, and as it was last logged.
    owned_before: usize,
    owned_told: usize,
}

impl<'a> Keeper<'a> {
    fn new(us: &'a Ownership) -> Self {
        Self {
            us,
            connection: None,
            standing: Standing::default(),
            renewed: None,
            host_share: 0,
            closing: FuturesUnordered::new(),
            unused: Vec::new(),
            sightings: Sightings::default(),
            kept_from_older: clock::now(),
            leaving: false,
            told_leaving: false,
            standing_by: false,
            owned_before: 0,
            owned_told: 0,
        }
    }

    /// One look at the others, and what follows from it. Gives the time until the next one.
    async fn turn(&mut self) -> Duration {
        let pause = self.look().await.unwrap_or_else(|error| {
            tracing::debug!(%error, "the leases could not be looked after; it is tried again");
            self.us.health.renewing.begin(store::cause(&error));
            self.until_next_look()
        });
        self.tell_owned();
        pause
    }

    /// A connection that fails is left.
    async fn look(&mut self) -> Result<Duration, sqlx::Error> {
        let within = self.us.lease / RENEW_PART;
        let late = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => tokio::time::timeout(within, self.us.database.connect()).await.map_err(late)??,
        };
        let pause = tokio::time::timeout(within, self.step(&mut connection)).await.map_err(late)??;
        self.connection = Some(connection);
        Ok(pause)
    }

    fn until_next_look(&self) -> Duration {
        LOOK.min(self.us.lease / LOOKS_IN_A_LEASE)
    }

    /// Once it has come to rest: partitions come and go one by one.
    fn tell_owned(&mut self) {
        let owned = self.owned().len();
        if owned == self.owned_before && owned != self.owned_told {
            tracing::info!(partitions = owned, before = self.owned_told, "partitions owned");
            self.owned_told = owned;
        }
        self.owned_before = owned;
    }

    async fn step(&mut self, connection: &mut PgConnection) -> Result<Duration, sqlx::Error> {
        let since_renewed = self.renewed.map(|renewed| clock::now().saturating_sub(renewed));
        if since_renewed.is_none_or(|since| since >= self.us.lease / RENEW_PART) {
            self.renew(connection).await?;
        }
        self.forget_lost(Lease::is_lost);
        self.give_back(connection).await?;
        if self.leaving {
            if !self.told_leaving {
                transaction("begin_to_leave", members::begin_to_leave(connection, &self.us.member)).await?;
                self.told_leaving = true;
            }
            return Ok(self.until_next_look());
        }
        let asked = clock::now();
        let view = transaction("view", members::view(connection, &self.us.member)).await?;
        // Not among them: the others have found us gone; the next renewal joins again.
        let Some(me) = view.me else {
            self.renewed = None;
            return Ok(Duration::ZERO);
        };
        if self.note_gone(connection, asked, &view).await? {
            return Ok(Duration::ZERO);
        }
        let plan = shares::plan(me, &view.peers, &view.owners);
        self.tell_standing_by(&plan, view.peers.len());
        let pause = self.adjust_share(connection, plan.host_share, shares::host_cap(&view.peers)).await?;
        self.close(|lease| plan.give_up.contains(&lease.partition.0));
        if !plan.claim.is_empty() {
            let epoch = |partition: i32| usize::try_from(partition).ok().and_then(|at| view.epochs.get(at)).copied();
            let seen: Vec<(i32, i64)> = plan.claim.iter().filter_map(|id| Some((*id, epoch(*id)?))).collect();
            let claimed = transaction("claim", members::claim(connection, &self.us.member, &seen)).await?;
            self.take_up(&claimed);
        }
        Ok(pause)
    }

    /// Whether any of the others was found to be gone: then there is another view of the cluster.
    async fn note_gone(
        &mut self,
        connection: &mut PgConnection,
        asked: Duration,
        view: &View,
    ) -> Result<bool, sqlx::Error> {
        let look = Look { asked, answered: clock::now() };
        let ours = self.us.lease;
        let renewals = view.renewals.iter().map(|(member, renewal, lease)| (*member, *renewal, lease.unwrap_or(ours)));
        let gone = self.sightings.note(look, renewals);
        if gone.is_empty() {
            return Ok(false);
        }
        for (member, _) in &gone {
            tracing::warn!(%member, "a worker has not renewed its lease in time: it is gone, and the others take its partitions");
        }
        transaction("note_gone", members::note_gone(connection, &gone)).await?;
        transaction("tell", members::tell(connection)).await?;
        Ok(true)
    }

    async fn renew(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let asked = clock::now();
        let renewed = transaction("renew", members::renew(connection, &self.us.member, self.us.lease)).await?;
        // Before the leases count again: what is not ours any more, and what we may not have open any more.
        self.forget_lost(|lease| !renewed.held.contains(&(lease.partition, lease.epoch)));
        let first = self.renewed.is_none();
        if first || renewed.host_share < self.host_share || self.standing.has_lapsed(clock::now()) {
            self.host_share = renewed.host_share;
            self.us.cap.set(Cap::Share(renewed.host_share.into())).await;
            self.standing.lapse();
        }
        self.standing.extend(counts_until(asked, self.us.lease));
        self.renewed = Some(asked);
        self.us.health.renewed();
        // A claim whose answer was lost: nothing is at work under it.
        let known: Vec<_> = self.owned().iter().map(|lease| (lease.partition, lease.epoch)).collect();
        let unknown = renewed.held.into_iter().filter(|held| !known.contains(held));
        self.unused.extend(unknown.map(|(partition, epoch)| Released { partition, epoch, graceful: false }));
        if clock::now().saturating_sub(self.kept_from_older) >= KEEP_FROM_OLDER {
            self.kept_from_older = clock::now();
            let keeping = members::keep_from_older(connection, &self.us.member);
            if let Err(error) = transaction("keep_from_older", keeping).await {
                tracing::debug!(%error, "older programs were not kept from this worker's partitions; it is tried again");
            }
        }
        if first {
            transaction("forget_gone", members::forget_gone(connection)).await?;
            transaction("tell", members::tell(connection)).await?;
        }
        Ok(())
    }

    /// Shrinks before others grow: a smaller share is told only when nothing is open beyond it, and a larger one is no
    /// more than what the others leave.
    async fn adjust_share(
        &mut self,
        connection: &mut PgConnection,
        target: u16,
        cap: u16,
    ) -> Result<Duration, sqlx::Error> {
        let most_begun = self.us.cap.set(Cap::Begin(target.min(self.host_share).into())).await;
        if target < self.host_share {
            if most_begun > target.into() {
                return Ok(LOOK_AT_SHARE);
            }
            self.us.cap.set(Cap::Share(target.into())).await;
            transaction("lower_share", members::lower_share(connection, &self.us.member, target)).await?;
            self.host_share = target;
        } else if target > self.host_share {
            let raising = members::raise_share(connection, &self.us.member, target, cap);
            let raised = transaction("raise_share", raising).await?;
            if raised > self.host_share {
                self.host_share = raised;
                self.us.cap.set(Cap::Share(raised.into())).await;
                transaction("tell", members::tell(connection)).await?;
                return Ok(Duration::ZERO);
            }
        }
        Ok(self.until_next_look())
    }

    fn owned(&self) -> watch::Ref<'_, Vec<Arc<Lease>>> {
        self.us.owned.borrow()
    }

    /// Closes leases: what is at work under them goes on, and then they are given back.
    fn close(&self, which: impl Fn(&Lease) -> bool) {
        for lease in self.owned().iter().filter(|lease| !lease.is_closed() && which(lease)) {
            lease.close();
            let lease = lease.clone();
            self.closing.push(Box::pin(async move {
                lease.unused().await;
                lease
            }));
        }
    }

    /// Whatever else is unused by now is given back with it.
    fn note_unused(&mut self, first: &Lease) {
        self.unused.push(first.released());
        while let Some(Some(lease)) = self.closing.next().now_or_never() {
            self.unused.push(lease.released());
        }
    }

    /// Gives back what nothing is at work under any more.
    async fn give_back(&mut self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        if self.unused.is_empty() {
            return Ok(());
        }
        transaction("release", members::release(connection, &self.us.member, &self.unused)).await?;
        let unused = std::mem::take(&mut self.unused);
        let is_unused =
            |lease: &Lease| unused.iter().any(|given| (given.partition, given.epoch) == (lease.partition, lease.epoch));
        self.us.owned.send_modify(|owned| owned.retain(|lease| !is_unused(lease)));
        transaction("tell", members::tell(connection)).await
    }

    /// Drops what another owner has.
    fn forget_lost(&self, is_lost: impl Fn(&Lease) -> bool) {
        let lost: Vec<Arc<Lease>> = self.owned().iter().filter(|lease| is_lost(lease)).cloned().collect();
        if lost.is_empty() {
            return;
        }
        for lease in &lost {
            lease.lose();
            tracing::warn!(partition = %lease.partition, "the partition has another owner");
        }
        self.us.owned.send_modify(|owned| owned.retain(|lease| !lease.is_lost()));
    }

    fn take_up(&self, claimed: &[Claimed]) {
        let leases =
            claimed.iter().map(|claimed| self.standing.lease(Partition(claimed.id), claimed.epoch, claimed.graceful));
        self.us.owned.send_modify(|owned| owned.extend(leases));
    }

    fn tell_standing_by(&mut self, plan: &Plan, workers: usize) {
        let stands_by = plan.host_share == 0;
        if stands_by && !self.standing_by {
            tracing::info!(
                workers,
                "standing by: each worker needs a partition (--partitions) and a connection to a host (--host-connections)"
            );
        }
        self.standing_by = stands_by;
    }

    fn begin_to_leave(&mut self) {
        self.leaving = true;
        self.close(|_| true);
    }

    /// Everything is given back; or nothing is at work any more, and the database is unreachable.
    fn has_nothing_left(&self) -> bool {
        self.owned().is_empty() || (self.connection.is_none() && self.closing.is_empty())
    }

    async fn leave(&mut self) {
        let within = self.us.lease / RENEW_PART;
        let left = match self.connection.as_mut() {
            Some(connection) => {
                let leaving = transaction("leave", members::leave(connection, &self.us.member));
                tokio::time::timeout(within, leaving).await
            }
            None => return tracing::warn!("the database is unreachable: what is left of the leases ends by itself"),
        };
        if let Ok(Err(error)) = left {
            tracing::warn!(%error, "the worker could not sign off; the others see it when its lease has ended");
        }
    }
}
