//! Keeps this worker's place among the others: asks the database what [`Membership`] wants to know, and does what it decides.

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
use crate::domain::lease::Look;
use crate::engine::membership::{Ask, Membership, RENEW_PART};
use crate::handoff::CapSetter;
use crate::health::Health;
use crate::lease::{Lease, Standing};
use crate::reconnect::Delays;
use crate::store::members::{self, Member};
use crate::store::server::{self, Server};
use crate::store::{self, Database};
use crate::telemetry::transaction;

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
                    while listener.heard().await.is_ok() {
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
                    () = stop.cancelled(), if !keeper.membership.is_leaving() => keeper.begin_to_leave(),
                    () = told.notified() => {}
                    () = keeper.standing.fenced() => {}
                    // Connecting anew shows where the address leads now.
                    () = self.database.leases().doubted() => keeper.connection = None,
                    Some(lease) = keeper.closing.next() => keeper.note_unused(&lease),
                    () = tokio::time::sleep(pause) => {}
                }
                pause = keeper.turn().await;
                if keeper.membership.is_leaving() && keeper.has_nothing_left() {
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
    connection: Option<(PgConnection, Server)>,
    standing: Standing,
    membership: Membership<Uuid>,
    /// Leases that were closed, until nothing is at work under them.
    closing: FuturesUnordered<BoxFuture<'static, Arc<Lease>>>,
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
            membership: Membership::new(us.lease, clock::now()),
            closing: FuturesUnordered::new(),
            standing_by: false,
            owned_before: 0,
            owned_told: 0,
        }
    }

    /// One look at the others, and what follows from it. Gives the time until the next one.
    async fn turn(&mut self) -> Duration {
        if let Err(error) = self.take_turn().await {
            tracing::debug!(%error, "the leases could not be looked after; it is tried again");
            self.us.health.renewing.begin(store::cause(&error));
            self.membership.failed();
        }
        self.tell_owned();
        self.tell_standing_by();
        self.membership.rest()
    }

    /// A connection that fails is left.
    async fn take_turn(&mut self) -> Result<(), sqlx::Error> {
        let within = self.us.lease / RENEW_PART;
        let late = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
        let mut connection = if let Some(connection) = self.connection.take() {
            connection
        } else {
            let connecting = connect(&self.us.database, within);
            let connection = tokio::time::timeout(within, connecting).await.map_err(late)??;
            if !self.us.database.leases().is(connection.1) {
                self.membership.renew_at_once();
            }
            connection
        };
        tokio::time::timeout(within, self.steps(&mut connection)).await.map_err(late)??;
        self.connection = Some(connection);
        Ok(())
    }

    async fn steps(&mut self, (connection, server): &mut (PgConnection, Server)) -> Result<(), sqlx::Error> {
        // What the writer has found to be another's.
        let fenced: Vec<_> =
            self.owned().iter().filter(|lease| lease.is_lost()).map(|l| (l.partition, l.epoch)).collect();
        self.lose(&fenced);
        self.membership.begin(clock::now());
        while let Some(ask) = self.membership.next_ask() {
            let renewed = matches!(ask, Ask::Extend(_));
            self.step(connection, ask).await?;
            if renewed {
                self.us.database.leases().renewed_on(*server);
            }
        }
        Ok(())
    }

    async fn step(&mut self, connection: &mut PgConnection, ask: Ask<Uuid>) -> Result<(), sqlx::Error> {
        let member = &self.us.member;
        match ask {
            Ask::Renew => {
                let asked = clock::now();
                let renewed = transaction("renew", members::renew(connection, member, self.us.lease)).await?;
                self.membership.renewed(asked, clock::now(), renewed);
            }
            Ask::Lose(lost) => self.lose(&lost),
            Ask::Lapse => self.standing.lapse(),
            Ask::Extend(until) => {
                self.standing.extend(until);
                self.us.health.renewed();
            }
            Ask::Cap(cap) => {
                let most_begun = self.us.cap.set(cap).await;
                self.membership.cap_set(cap, most_begun);
            }
            Ask::ForgetGone => transaction("forget_gone", members::forget_gone(connection)).await?,
            Ask::KeepFromOlder => {
                let keeping = members::keep_from_older(connection, member);
                if let Err(error) = transaction("keep_from_older", keeping).await {
                    tracing::debug!(%error, "older programs were not kept from this worker's partitions; it is tried again");
                }
            }
            Ask::Release(given) => {
                transaction("release", members::release(connection, member, &given)).await?;
                self.membership.released(&given);
                let is_given =
                    |lease: &Lease| given.iter().any(|g| (g.partition, g.epoch) == (lease.partition, lease.epoch));
                self.us.owned.send_modify(|owned| owned.retain(|lease| !is_given(lease)));
            }
            Ask::BeginToLeave => transaction("begin_to_leave", members::begin_to_leave(connection, member)).await?,
            Ask::Look => {
                let asked = clock::now();
                let view = transaction("view", members::view(connection, member)).await?;
                self.membership.viewed(Look { asked, answered: clock::now() }, &view);
            }
            Ask::NoteGone(gone) => {
                for (member, _) in &gone {
                    tracing::warn!(%member, "a worker has not renewed its lease in time: it is gone, and the others take its partitions");
                }
                transaction("note_gone", members::note_gone(connection, &gone)).await?;
            }
            Ask::Tell => transaction("tell", members::tell(connection)).await?,
            Ask::LowerShare(share) => {
                transaction("lower_share", members::lower_share(connection, member, share)).await?;
                self.membership.lowered(share);
            }
            Ask::RaiseShare { target, cap } => {
                let raising = members::raise_share(connection, member, target, cap);
                self.membership.raised(transaction("raise_share", raising).await?);
            }
            Ask::Close(partitions) => self.close(|lease| partitions.contains(&lease.partition.0)),
            Ask::Claim(wanted) => {
                let claimed = transaction("claim", members::claim(connection, member, &wanted)).await?;
                self.membership.claimed(&claimed);
                let leases = claimed.iter().map(|claimed| self.standing.lease(claimed));
                self.us.owned.send_modify(|owned| owned.extend(leases));
            }
        }
        Ok(())
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
        self.membership.unused(first.released());
        while let Some(Some(lease)) = self.closing.next().now_or_never() {
            self.membership.unused(lease.released());
        }
    }

    /// Drops what another owner has.
    fn lose(&mut self, lost: &[(Partition, i64)]) {
        if lost.is_empty() {
            return;
        }
        for (partition, epoch) in lost {
            self.membership.lost(*partition, *epoch);
            tracing::warn!(%partition, "the partition has another owner");
        }
        let is_lost = |lease: &Lease| lost.contains(&(lease.partition, lease.epoch));
        self.owned().iter().filter(|lease| is_lost(lease)).for_each(|lease| lease.lose());
        self.us.owned.send_modify(|owned| owned.retain(|lease| !is_lost(lease)));
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

    fn tell_standing_by(&mut self) {
        let stands_by = self.membership.stands_by();
        if stands_by && !self.standing_by {
            tracing::info!(
                "standing by: each worker needs a partition (--partitions) and a connection to a host (--host-connections)"
            );
        }
        self.standing_by = stands_by;
    }

    fn begin_to_leave(&mut self) {
        self.membership.begin_to_leave();
        self.close(|_| true);
    }

    /// Everything is given back; or nothing is at work any more, and the database is unreachable.
    fn has_nothing_left(&self) -> bool {
        self.owned().is_empty() || (self.connection.is_none() && self.closing.is_empty())
    }

    async fn leave(&mut self) {
        let within = self.us.lease / RENEW_PART;
        let left = match self.connection.as_mut() {
            Some((connection, _)) => {
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

/// A connection whose statements have this much time, and where it leads.
async fn connect(database: &Database, within: Duration) -> Result<(PgConnection, Server), sqlx::Error> {
    let mut connection = database.limited_to(within).connect().await?;
    let server = server::of(&mut connection).await?;
    Ok((connection, server))
}
