//! From the moment at which an event is due to be published to its receipt.

use std::time::Duration;

use super::super::load::Load;
use super::super::processes::{Consumers, Receiver};
use super::super::receiver::{Latency, ReceiverArgs};
use super::super::results::Results;
use super::super::world::World;
use super::super::{Bench, Fallible};

/// Of the speed of a drain.
const SHARE: f64 = 0.5;
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(20);
/// A publisher that falls behind its schedule measures itself.
const LATEST: Duration = Duration::from_millis(50);

pub async fn run(bench: &Bench, results: &mut Results) -> Fallible<()> {
    let rate = SHARE * super::drain_rate(bench, results).await?;
    for run in 0..bench.settings.runs {
        let title = bench.title("latency", run);
        bench.say(&format!("{title}: {rate:.0} events/s for {} s", (WARM_UP + MEASURED).as_secs()));
        let (latency, latest) = measure(bench, rate, results).await?;
        bench.say(&format!("{title}: p50 {:.1} ms, p99 {:.1} ms", latency.p50, latency.p99));
        results.add("latency", "", "rate", "1/s", rate);
        let Latency { p50, p90, p99, p999, max } = latency;
        for (name, value) in [("p50", p50), ("p90", p90), ("p99", p99), ("p99.9", p999), ("max", max)] {
            results.add("latency", "", name, "ms", value);
        }
        results.add("latency", "", "latest step of the schedule", "ms", latest.as_secs_f64() * 1_000.0);
        if latest > LATEST {
            bench
                .say(&format!("{title}: the publisher was {latest:?} behind its schedule; the latencies include that"));
        }
    }
    Ok(())
}

async fn measure(bench: &Bench, rate: f64, results: &mut Results) -> Fallible<(Latency, Duration)> {
    let world = World::new(&bench.servers).await?;
    let events = ((WARM_UP + MEASURED).as_secs_f64() * rate) as u32;
    let load = Load::plain(events, bench.seed);
    let mut receiver = Receiver::start(&ReceiverArgs::expecting(events + 1)).await?;
    world.settle().await?;
    let mut workers = Consumers::workers(&world, &bench.servers.dir, 1, &[])?;
    // Its first event tells that the worker is there. It is of an entity of its own.
    let first = Load { entities: 1, ..Load::plain(1, bench.seed) };
    let measured = async {
        first.publish_apart(&world.amqp_url, receiver.port, load.entities).await?;
        receiver.first().await?;
        let latest = load.publish_by_schedule(&world.amqp_url, receiver.port, rate, WARM_UP).await?;
        receiver.done().await?;
        Ok(latest)
    };
    let latest = workers.during(measured).await?;
    workers.stop().await?;
    let report = receiver.report().await?;
    world.remove().await?;
    if report.out_of_order + report.again > 0 {
        results.broken.push(format!("latency: {} out of order, {} again", report.out_of_order, report.again));
    }
    Ok((report.latency.ok_or("no event was measured")?, latest))
}
