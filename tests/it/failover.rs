//! Two databases, one of them the other's standby, behind an address that moves: whichever way the primary is lost, the
//! workers go on with the other one by themselves, and nothing is lost, sent twice or out of order.

use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};

use crate::support::Stop::{ByKill, Gently};
use crate::support::Which::{self, Database as First, SecondDatabase as Second};
use crate::support::{
    Address, Before, Check, Cluster, Database, Fault, Load, Message, Producer, Receiver, SOON, Servers, Worker, asking,
    test_behind_an_address,
};

/// From the moment in which the address leads to a primary again to deliveries of every partition: a lease of 3 s has ended,
/// and is watched for its whole length again, and each server is tried again after at most 5 s.
const GOES_ON_WITHIN: Duration = Duration::from_secs(15);
/// Deliveries that say that the load goes on.
const SOME: usize = 200;

/// Waits until the load goes on. Gives how long that took.
async fn goes_on(cluster: &Cluster<'_>) -> Duration {
    let moved = Instant::now();
    let so_far = cluster.receiver.log().delivered.len();
    cluster.receiver.wait_for_delivered(GOES_ON_WITHIN, so_far + SOME).await;
    moved.elapsed()
}

#[test]
fn a_standby_takes_over_from_a_primary_that_died_was_cut_off_or_was_stopped_and_the_workers_go_on() {
    test_behind_an_address(Load::Shared, async |world, servers, address| {
        servers.start_standby(Second).await;
        let (mut cluster, first) = Cluster::start(world).await;
        let second = cluster.add().await;
        let mut faults = Vec::new();
        for lose in [Loss::Dies, Loss::FallsSilent, Loss::IsStopped] {
            let from = Instant::now();
            lose.happen(servers, address).await;
            println!("{lose:?}: deliveries after {:?}", goes_on(&cluster).await);
            if matches!(lose, Loss::FallsSilent) {
                // What was on its way arrives at last, at one that still thinks it is the primary.
                address.hear(servers.port_of(Second));
                println!("the old primary is back: deliveries after {:?}", goes_on(&cluster).await);
                servers.stop(Second, ByKill).await;
                servers.start_standby(Second).await;
            }
            faults.push(Fault { from, to: Instant::now() });
            goes_on(&cluster).await;
        }
        cluster.database = Database::connect(world).await;
        cluster.ends_well(&[&first, &second], &faults).await;
    });
}

/// How the primary is lost. One follows the other: first, second, first, and second again.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Dies,
    /// It goes on, and nobody hears of it; connections to it do not break.
    FallsSilent,
    /// It is a standby then, and the address leads there for a while.
    IsStopped,
}

impl Loss {
    async fn happen(self, servers: &Servers, address: &Address) {
        let port = |which: Which| servers.port_of(which);
        match self {
            Self::Dies => {
                servers.stop(First, ByKill).await;
                servers.promote(Second).await;
                address.move_to(port(Second), Before::Cut);
                servers.start_standby(First).await;
            }
            Self::FallsSilent => {
                address.silence(port(Second));
                servers.promote(First).await;
                address.move_to(port(First), Before::Kept);
            }
            Self::IsStopped => {
                servers.stop(First, Gently).await;
                servers.promote(Second).await;
                servers.start_standby(First).await;
                // Connections that lead to the standby now stay there.
                let connected = async || (sessions(port(First)).await > 0).then_some(());
                asking(SOON, "a worker at the standby", connected).await;
                address.move_to(port(Second), Before::Kept);
            }
        }
    }
}

/// Sessions of workers on the server at this port.
async fn sessions(port: u16) -> i64 {
    let mut connection = administer(port, "postgres").await;
    let sql = "select count(*) from pg_stat_activity where application_name like 'onceward worker%'";
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("an answer")
}

/// Until when the worker's lease lasts, as the server at this port has it.
async fn renewal(port: u16, database: &str) -> String {
    let mut connection = administer(port, database).await;
    let sql = "select coalesce(max(expires_at)::text, '') from member";
    sqlx::query_scalar(sql).fetch_one(&mut connection).await.expect("an answer")
}

async fn administer(port: u16, database: &str) -> PgConnection {
    let url = format!("postgres://postgres@127.0.0.1:{port}/{database}");
    PgConnection::connect(&url).await.expect("the server answers")
}

#[test]
fn a_worker_whose_connections_lead_to_two_primaries_leaves_the_one_that_does_not_have_its_leases() {
    test_behind_an_address(Load::Shared, async |world, servers, address| {
        servers.start_standby(Second).await;
        let receiver = Receiver::healthy().await;
        let worker = Worker::start(world, &[]).await;
        let producer = Producer::connect(world).await;
        let event = |n: usize| Message::new(&format!("user-{}", n % 7), &format!("event-{n}"), &receiver.url());
        producer.publish_all(&(0..50).map(event).collect::<Vec<_>>()).await;
        receiver.wait_for_delivered(SOON, 50).await;
        // Nobody stops the old primary, and it takes writes without a standby; only what renews the leases is cut.
        servers.promote(Second).await;
        let mut old = administer(servers.port_of(First), &world.name).await;
        for sql in ["alter system reset synchronous_standby_names", "select pg_reload_conf()"] {
            sqlx::raw_sql(sql).execute(&mut old).await.expect("an administrator may");
        }
        address.move_to(servers.port_of(Second), Before::Kept);
        // What it has asked last.
        let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                   where application_name like 'onceward worker%' \
                   and query ~ '(into member|from member|update member|select owner, epoch)'";
        let count: i64 = sqlx::query_scalar(cut).fetch_one(&mut old).await.expect("an administrator may");
        assert_eq!(count, 1, "the session that renews the leases");
        // The second renewal there: the first one is known to the worker by then.
        let mut renewed = renewal(servers.port_of(Second), &world.name).await;
        for _ in 0..2 {
            let another = async || {
                let now = renewal(servers.port_of(Second), &world.name).await;
                (now != renewed).then_some(now)
            };
            renewed = asking(SOON, "the leases at the new primary", another).await;
        }
        producer.publish_all(&(50..100).map(event).collect::<Vec<_>>()).await;
        receiver.wait_for_delivered(SOON, 100).await;
        worker.stop().await;
        let database = Database::connect(world).await;
        assert_eq!(database.states().await, [("DELIVERED".to_owned(), 100)].into(), "at the new primary");
        let left: i64 = sqlx::query_scalar("select count(*) from event").fetch_one(&mut old).await.expect("an answer");
        assert_eq!(left, 50, "nothing was written to the old one any more");
        Check::new(receiver.attempts(), 5).order(&database.lines().await).nothing_resent();
    });
}
