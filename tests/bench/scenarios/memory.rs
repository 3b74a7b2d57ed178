//! What a worker takes in memory while a host never answers, and ever more events wait for it.

use std::time::Duration;

use onceward::store::Database;
use sqlx::Row as _;

use super::super::load::Load;
use super::super::processes::{Consumers, Receiver};
use super::super::receiver::ReceiverArgs;
use super::super::results::Results;
use super::super::world::World;
use super::super::{Bench, Fallible};

const WAITING: [(&str, u32); 2] = [("10 thousand wait", 10_000), ("1 million wait", 1_000_000)];
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Without anything newly recorded for so long, the measurement has failed.
const STALLED_AFTER: u32 = 60;
/// A worker that has taken in everything is looked at for a while longer.
const STAY: Duration = Duration::from_secs(10);

pub async fn run(bench: &Bench, results: &mut Results) -> Fallible<()> {
    for run in 0..bench.settings.runs {
        for (case, events) in WAITING {
            let title = bench.title(&format!("memory, {case}"), run);
            let peak = measure(bench, &title, bench.settings.scaled(events)).await?;
            bench.say(&format!("{title}: {peak:.0} MiB"));
            results.add("memory", case, "worker at its peak", "MiB", peak);
        }
    }
    Ok(())
}

async fn measure(bench: &Bench, title: &str, events: u32) -> Fallible<f64> {
    let world = World::new(bench).await?;
    let load = Load::plain(events, bench.seed);
    let args = ReceiverArgs { all_hang: true, ..ReceiverArgs::expecting(events) };
    let receiver = Receiver::start(&args).await?;
    bench.say(&format!("{title}: publishing {events} events"));
    load.publish(&world.amqp_url, receiver.port).await?;
    world.settle().await?;
    bench.say(&format!("{title}: taking in"));
    let mut workers = Consumers::workers(&world, &bench.servers.dir, 1, &[])?;
    workers.during(until_recorded(&world, events)).await?;
    let peak = workers.peak_mib()?;
    workers.kill().await?;
    world.remove().await?;
    Ok(peak)
}

/// Waits until all are in the database.
async fn until_recorded(world: &World<'_>, events: u32) -> Fallible<()> {
    let mut connection = Database::new(&world.database_url, "onceward bench")?.connect().await?;
    let (mut most, mut looks) = (0, 0);
    loop {
        let count = "select (select count(*) from open_event) + (select count(*) from final_event)";
        let recorded: i64 = sqlx::query(count).fetch_one(&mut connection).await?.try_get(0)?;
        if recorded >= i64::from(events) {
            tokio::time::sleep(STAY).await;
            return Ok(());
        }
        looks = if recorded > most { 0 } else { looks + 1 };
        most = most.max(recorded);
        if looks == STALLED_AFTER {
            return Err(format!("{recorded} of {events} events are recorded, and no more come").into());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
