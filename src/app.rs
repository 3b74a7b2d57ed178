//! Wires the worker together, and takes it apart: wiring only.

mod reload;
mod settings;
mod signals;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

pub use self::reload::Given;
use self::reload::Reload;
use self::signals::Signals;
use crate::announce::Announcer;
use crate::broker::dead_letters::DeadLetters;
use crate::broker::publisher::Publisher;
use crate::broker::topology::{self, Names, TopologyError};
use crate::broker::{Heartbeat, Nodes, probe};
use crate::census::Counted;
use crate::config::systemd::Manager;
use crate::config::{BrokerArgs, ExchangeType, WorkerArgs};
use crate::deliver::clients::Clients;
use crate::deliver::oauth2::Tokens;
use crate::deliver::pool::{ClientSettings, SetUpError};
use crate::deliver::{self, Sender};
use crate::destinations::Again;
use crate::dispatch::{self, Loads, Ports};
use crate::domain::destination::Destinations;
use crate::engine::Rules;
use crate::engine::hosts::gates::MOST_CHANGES;
use crate::gates::GateSync;
use crate::handoff::{Arrived, CapSetter, GatePorts, Notice};
use crate::health::Health;
use crate::intake::{Intake, Receivers};
use crate::lease::Lease;
use crate::ownership::Ownership;
use crate::reconnect::Delays;
use crate::rescue::Rescue;
use crate::service::Service;
use crate::standstill::Standstill;
use crate::store::cluster::{self, ClusterError, Fixed};
use crate::store::members::Member;
use crate::store::{self, Database};
use crate::telemetry::metrics::{self, Connections};
use crate::telemetry::{trace, transaction};
use crate::writer::Writer;
use crate::{admin, census, destinations};

/// Commands that wait for the writer; a sender beyond that waits.
const COMMANDS: usize = 2_048;
/// Batches of arrivals that wait for the engine.
const ARRIVED: usize = 64;
/// Memory for the bodies of events that wait for their host, in bytes. Beyond it they wait in the store.
const BODIES: usize = 64 * 1024 * 1024;
/// Commits whose results wait for dispatch.
const WRITTEN: usize = 2;
/// What else waits for dispatch.
const NOTICES: usize = 1_024;
/// Attempts on their way to being sent, and ended ones on their way back.
const ATTEMPTS: usize = 1_024;
/// Wake-ups, and dead letters, that wait for the broker; what finds no room is found by a sweep.
const ANNOUNCEMENTS: usize = 4_096;
/// What was read of gates, on its way to the engine.
const GATES: usize = 4;
/// How long the bodies of one commit may take on their way to the database.
const LONGEST_TARGET: Duration = Duration::from_secs(1);
/// How long a worker that starts waits for the broker before it takes its share of the partitions.
const REACH_WITHIN: Duration = Duration::from_secs(5);

/// Why the worker stopped.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
    /// The database was set up otherwise.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The schema can't be brought up to date.
    #[error("the database's schema can't be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The database refuses something that only a person can change.
    #[error("{}", store::explain(.0))]
    Database(#[from] sqlx::Error),
    /// A pooler shares sessions out by transactions.
    #[error("{}", store::NO_SESSIONS)]
    NoSessions,
    /// The database can't hold every text.
    #[error(
        "the database's encoding is {0}; Onceward needs UTF8: create it with `createdb --encoding=UTF8 --template=template0`"
    )]
    Encoding(String),
    /// The broker is not as it has to be.
    #[error("{0}")]
    Topology(#[from] TopologyError),
    /// The broker is too old, or another product.
    #[error("the broker is {0}: Onceward needs RabbitMQ 3.10 or later")]
    Broker(String),
    /// TLS for deliveries can't be set up.
    #[error("the HTTP client can't be set up: {0}")]
    Client(#[from] SetUpError),
    /// A part of the worker panicked.
    #[error("a part of the worker failed: {0}")]
    Panic(#[from] JoinError),
    /// The drain time is over.
    #[error("attempts were still in flight after {} (--drain-time); they are sent again by the next owner", humantime::format_duration(*.0))]
    Drain(Duration),
    /// Signals can't be received.
    #[error("signals can't be received: {0}")]
    Signal(std::io::Error),
    /// A second signal.
    #[error("stopped at once by a second signal; attempts in flight are sent again by the next owner")]
    SecondSignal,
}

/// Runs a worker until SIGTERM or SIGINT, and drains it.
///
/// # Errors
/// What only a person can mend.
pub async fn run(args: &WorkerArgs, given: Given) -> Result<(), WorkerError> {
    // First of all: from here on, no signal kills the worker unasked.
    let mut signals = Signals::new(args.destinations.is_some() || given.has_file()).map_err(WorkerError::Signal)?;
    args.validate().map_err(WorkerError::Setting)?;
    let service = Arc::new(Service::new(Manager::find().map_err(WorkerError::Setting)?));
    let told = Arc::clone(&service);
    let _told = AbortOnDropHandle::new(tokio::spawn(async move { told.keep().await }));
    let destinations = destinations::at_start(args).map_err(WorkerError::Setting)?;
    raise_file_limit();
    given.tell();
    let database = Database::new(&args.database.database_url, &format!("onceward worker {}", args.name()))?
        .give_up_within(args.lease);
    let names = tokio::select! {
        prepared = prepare(args, &database, &service) => prepared?,
        () = signals.next() => return Ok(()),
    };
    let admin = admin::listen(args.admin_listen).await.map_err(WorkerError::Setting)?;
    let reload = Reload::new(args, given);
    let again = Again { asked: signals.again.clone(), read: Arc::new(move || reload.read()), service: service.clone() };
    let worker = Worker::start(args, database, names, admin, (destinations, again))?;
    service.works(&worker.health);
    worker.until_stopped(&mut signals, (args.drain_time, &service)).await
}

/// Waits for the servers, looks at the broker, and brings the schema up to date; gives the names of exchanges and queues.
async fn prepare(args: &WorkerArgs, database: &Database, service: &Service) -> Result<Names, WorkerError> {
    settings::tell(args);
    let broker = probe::ask(&args.broker.amqp_url).await;
    if let Some(info) = broker.as_ref().filter(|info| !info.is_supported()) {
        return Err(WorkerError::Broker(format!("{} {}", info.product, info.version)));
    }
    let modulus_hash = args.exchange_type == ExchangeType::ModulusHash;
    if modulus_hash && broker.as_ref().is_some_and(|info| !info.has_modulus_hash()) {
        return Err(TopologyError::NoModulusHash.into());
    }
    let mut delays = Delays::default();
    let mut told = false;
    loop {
        let error = match set_up(args, database).await {
            Ok(topology) => {
                let names = Names::new(&args.broker.exchange).declared_as(topology).of_type(args.exchange_type);
                let names = names.hashing(args.origin.entity_from.header());
                if let Some(broker) = &broker {
                    topology::advise(&names, broker, &args.broker.vhost());
                }
                return Ok(names);
            }
            Err(
                WorkerError::Cluster(ClusterError::Database(error))
                | WorkerError::Database(error)
                | WorkerError::Migrate(sqlx::migrate::MigrateError::Execute(error)),
            ) => error,
            Err(error) => return Err(error),
        };
        if !store::is_transient(&error) {
            return Err(error.into());
        }
        let cause = store::cause(&error);
        if !told {
            tracing::warn!("the worker does not start yet: {cause}; it is tried again");
        }
        service.waits(&cause);
        told = true;
        delays.wait().await;
    }
}

async fn set_up(args: &WorkerArgs, database: &Database) -> Result<i32, WorkerError> {
    if !store::session::is_kept(database).await? {
        return Err(WorkerError::NoSessions);
    }
    let mut connection = database.connect().await?;
    let encoding = store::encoding(&mut connection).await?;
    if encoding != "UTF8" {
        return Err(WorkerError::Encoding(encoding));
    }
    store::migrate(&mut connection).await?;
    let (partitions, exchange) = (args.partitions, args.broker.exchange.as_str());
    let (entity_from, sequence_from) = (args.origin.entity_from.to_string(), args.origin.sequence_from.to_string());
    let (entity_from, sequence_from) = (entity_from.as_str(), sequence_from.as_str());
    let fixed = Fixed { partitions, exchange, topology: topology::VERSION, entity_from, sequence_from };
    Ok(transaction("join", cluster::join(&mut connection, fixed)).await?)
}

/// All running parts, in the order in which they end.
struct Worker {
    intake: JoinHandle<Result<(), TopologyError>>,
    rescue: JoinHandle<()>,
    dispatch: JoinHandle<()>,
    deliver: JoinHandle<()>,
    writer: JoinHandle<Result<(), sqlx::Error>>,
    announcer: JoinHandle<()>,
    publisher: JoinHandle<()>,
    #[expect(dead_code, reason = "kept for its end")]
    keeping: AbortOnDropHandle<()>,
    ownership: JoinHandle<()>,
    census: JoinHandle<()>,
    follow: JoinHandle<()>,
    gate_sync: JoinHandle<()>,
    admin: JoinHandle<()>,
    health: Arc<Health>,
    /// Nothing new begins.
    stop: CancellationToken,
    /// The publisher goes, too.
    end: CancellationToken,
}

impl Worker {
    fn start(
        args: &WorkerArgs,
        database: Database,
        names: Names,
        admin: Option<TcpListener>,
        (destinations, again): (Destinations, Again),
    ) -> Result<Self, WorkerError> {
        let (stop, end) = (CancellationToken::new(), CancellationToken::new());
        let pool = database.pool();
        let member = Member { id: Uuid::new_v4(), name: args.name(), host_cap: args.host_connections };
        let (cap, set_cap) = CapSetter::new();
        let (settings, destinations) = watch::channel(Arc::new(destinations));
        let (sender, receivers) = receivers(args, admin.as_ref(), &destinations)?;
        let (publisher, keep_publishing) = Publisher::new(nodes(args), end.clone());
        let (commands, to_write) = mpsc::channel(COMMANDS);
        let (written, from_writer) = mpsc::channel(WRITTEN);
        let (arrived, to_admit) = mpsc::channel(ARRIVED);
        let (notices, noticed) = mpsc::channel(NOTICES);
        let (attempts, to_deliver) = mpsc::channel(ATTEMPTS);
        let (ended, to_judge) = mpsc::channel(ATTEMPTS);
        let (wakes, to_wake) = mpsc::channel(ANNOUNCEMENTS);
        let (dead_letters, to_dead_letter) = mpsc::channel(ANNOUNCEMENTS);
        let (owned, ours) = watch::channel(Vec::new());
        let (health, loads) = (Arc::new(Health::new(args.lease)), Loads::default());
        let (counted, reached) = (watch_gauges(args, &loads, &ours, &health), CancellationToken::new());
        let writer = writer(args, &database, &member, &health);
        let (gates, gate_sync) = gates((&pool, member.id), &destinations, &ours);
        let follow = destinations::follow(args, (settings, again), (pool.clone(), member.clone()), stop.clone());
        let ownership = Ownership { database, member, lease: args.lease, cap, health: health.clone(), owned };
        let feeds = (arrived, notices.clone(), publisher.clone());
        let intake = intake(args, names.clone(), feeds, (ours.clone(), receivers), &health, &reached);
        let census = census::run(pool.clone(), ours.clone(), counted, stop.clone());
        let rescue = Rescue::new(pool.clone(), ours.clone(), notices, dead_letters.clone(), args.retention);
        let rules = rules(args, destinations.borrow().clone());
        let ports = Ports {
            destinations,
            gates,
            arrived: to_admit,
            cap: set_cap,
            loads,
            written: from_writer,
            owned: ours,
            notices: noticed,
            ended: to_judge,
            commands,
            attempts,
            wakes,
            dead_letters,
        };
        let keeping = keep_publishable(publisher.clone(), names.clone(), args.partitions, !nodes(args).are_one());
        let announcer = Announcer { letters: DeadLetters { publisher, names }, pool, under_way: Mutex::default() };
        Ok(Self {
            intake: tokio::spawn(intake.run(stop.clone())),
            rescue: tokio::spawn(rescue.run(stop.clone())),
            dispatch: tokio::spawn(dispatch::run(ports, rules, health.clone(), stop.clone())),
            deliver: tokio::spawn(deliver::run(to_deliver, ended, sender)),
            writer: on_a_thread(writer.run(to_write, written)),
            announcer: tokio::spawn(announcer.run(to_wake, to_dead_letter)),
            publisher: tokio::spawn(keep_publishing),
            keeping: AbortOnDropHandle::new(tokio::spawn(keeping)),
            ownership: tokio::spawn(join(ownership, reached, stop.clone())),
            census: tokio::spawn(census),
            follow: tokio::spawn(follow),
            gate_sync: tokio::spawn(gate_sync.run(stop.clone())),
            admin: tokio::spawn(admin::run(admin, health.clone(), end.clone())),
            health,
            stop,
            end,
        })
    }

    async fn until_stopped(
        mut self,
        signals: &mut Signals,
        (drain_time, service): (Duration, &Service),
    ) -> Result<(), WorkerError> {
        let failed = tokio::select! {
            () = signals.next() => None,
            ended = &mut self.intake => Some(ended.map(|ended| ended.map_err(WorkerError::from))),
            ended = &mut self.writer => Some(ended.map(|ended| ended.map_err(WorkerError::from))),
            ended = &mut self.dispatch => Some(ended.map(Ok)),
            ended = &mut self.deliver => Some(ended.map(Ok)),
            ended = &mut self.rescue => Some(ended.map(Ok)),
            ended = &mut self.ownership => Some(ended.map(Ok)),
            ended = &mut self.gate_sync => Some(ended.map(Ok)),
        };
        if let Some(ended) = failed {
            return ended?;
        }
        tracing::info!("stopping: what is in flight is finished; a second signal ends at once");
        service.stops_within(drain_time);
        tokio::select! {
            drained = tokio::time::timeout(drain_time, self.drain()) => match drained {
                Ok(drained) => drained?,
                Err(_) => return Err(WorkerError::Drain(drain_time)),
            },
            () = signals.next() => return Err(WorkerError::SecondSignal),
        }
        tracing::info!("stopped");
        Ok(())
    }

    /// Each part ends when its senders have.
    async fn drain(self) -> Result<(), WorkerError> {
        self.health.stop();
        self.stop.cancel();
        self.intake.await??;
        self.rescue.await?;
        self.census.await?;
        self.follow.await?;
        self.deliver.await?;
        self.writer.await??;
        self.dispatch.await?;
        self.gate_sync.await?;
        self.announcer.await?;
        self.ownership.await?;
        self.end.cancel();
        self.publisher.await?;
        self.admin.await?;
        Ok(())
    }
}

/// Runs a task on a thread of its own: there it doesn't queue behind what is sent and received each time that a statement
/// has its answer.
fn on_a_thread<T: Send + 'static>(
    task: impl Future<Output = Result<T, sqlx::Error>> + Send + 'static,
) -> JoinHandle<Result<T, sqlx::Error>> {
    tokio::task::spawn_blocking(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(sqlx::Error::Io)?;
        runtime.block_on(task)
    })
}

/// Tells the gauges where to look.
fn watch_gauges(
    args: &WorkerArgs,
    loads: &Loads,
    owned: &watch::Receiver<Vec<Arc<Lease>>>,
    health: &Arc<Health>,
) -> Counted {
    let (loads, owned, partitions) = (loads.clone(), owned.clone(), args.partitions.into());
    let loads = move || loads.last();
    let standing = health.clone();
    let ownership =
        move || metrics::Ownership { owned: owned.borrow().len(), partitions, lease_age: standing.lease_age() };
    let health = health.clone();
    let standing = health.clone();
    let connections = move || Connections { broker: health.has_broker(), database: health.has_database() };
    let age = |part: &Standstill| part.cause().map(|cause| cause.age());
    let still = move || {
        [("consuming", &standing.consuming), ("renewing", &standing.renewing), ("recording", &*standing.recording)]
            .map(|(part, standstill)| (part, age(standstill)))
    };
    let counted = Counted::default();
    let last = counted.clone();
    metrics::watch(Box::new(loads), ownership, connections, still, move || last.last());
    counted
}

fn intake(
    args: &WorkerArgs,
    names: Names,
    (arrived, notices, publisher): (mpsc::Sender<Arrived>, mpsc::Sender<Notice>, Publisher),
    (owned, receivers): (watch::Receiver<Vec<Arc<Lease>>>, Receivers),
    health: &Arc<Health>,
    reached: &CancellationToken,
) -> Intake {
    let BrokerArgs { amqp_url, exchange, .. } = &args.broker;
    Intake {
        nodes: nodes(args),
        names,
        partitions: args.partitions,
        terms: args.terms(),
        receivers,
        arrived,
        notices,
        publisher,
        owned,
        origin: trace::Broker::new(amqp_url.first().reveal(), exchange),
        health: health.clone(),
        heartbeat: Heartbeat::under(args.lease),
        reached: reached.clone(),
    }
}

/// What keeps the gates of engine and store together, and the engine's end of it.
fn gates(
    (pool, member): (&PgPool, Uuid),
    destinations: &watch::Receiver<Arc<Destinations>>,
    owned: &watch::Receiver<Vec<Arc<Lease>>>,
) -> (GatePorts, GateSync) {
    let (said, changes) = mpsc::channel(2 * MOST_CHANGES);
    let (tell, told) = mpsc::channel(GATES);
    let (pool, destinations, owned) = (pool.clone(), destinations.clone(), owned.clone());
    (GatePorts { told, said }, GateSync { pool, member, destinations, owned, changes, told: tell })
}

/// Exchanges and queues that are gone are declared again, and nodes that are cut off are left for others.
async fn keep_publishable(publisher: Publisher, names: Names, partitions: u16, has_others: bool) {
    let leaving = async {
        if has_others {
            publisher.clone().leave_useless_nodes(names.clone(), partitions).await;
        }
    };
    tokio::join!(publisher.clone().mend_topology(names.clone(), partitions), leaving);
}

fn nodes(args: &WorkerArgs) -> Nodes {
    Nodes::new(&args.broker.amqp_url).for_worker(&args.name())
}

/// What attempts are sent by, and what intake knows of receivers.
fn receivers(
    args: &WorkerArgs,
    admin: Option<&TcpListener>,
    destinations: &watch::Receiver<Arc<Destinations>>,
) -> Result<(Sender, Receivers), SetUpError> {
    let at = admin.and_then(|listener| listener.local_addr().ok());
    let guard = Arc::new(args.guard.guard(args.own_servers(at)));
    let clients = Clients::new(ClientSettings {
        guard: guard.clone(),
        name_servers: args.guard.name_servers.0.clone(),
        connection_life: args.guard.connection_life,
        per_host: args.host_connections.into(),
        attempt_timeout: args.attempt_timeout,
    })?;
    let destinations = destinations.clone();
    let sender = Sender { clients: Arc::new(clients), destinations: destinations.clone(), tokens: Tokens::default() };
    Ok((sender, Receivers { destinations, guard }))
}

fn writer(args: &WorkerArgs, database: &Database, member: &Member, health: &Health) -> Writer {
    Writer {
        database: database.by_index(),
        member: member.clone(),
        first_sequence: args.first_sequence(),
        target: (args.lease / 8).min(LONGEST_TARGET),
        recording: health.recording.clone(),
    }
}

fn rules(args: &WorkerArgs, destinations: Arc<Destinations>) -> Rules {
    let seed = RandomState::new().hash_one(args.name());
    let host_cap = args.host_connections.into();
    Rules { destinations, host_cap, seed, most_begun: args.max_in_flight.into(), bodies: BODIES }
}

/// A worker that reaches the broker only after it has taken partitions would leave them waiting. But a broker that is
/// away must not keep it from what is recorded already.
async fn join(ownership: Ownership, reached: CancellationToken, stop: CancellationToken) {
    let _ = tokio::time::timeout(REACH_WITHIN, stop.run_until_cancelled(reached.cancelled())).await;
    ownership.run(stop).await;
}

/// Each connection is a file, and the usual soft limit of 1,024 is for programs that can't have more.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%error, soft = limit.current, hard = limit.maximum, "the limit of open files can't be raised to the hard one");
    }
}
