//! From the moment at which an event is due to be published to its receipt, and what an event costs where events come one
//! by one. If the bare pipe is asked for, it is measured at the same rates, in turns.

use std::time::Duration;

use super::super::args::Scenario;
use super::super::cpu::{self, Cpu};
use super::super::drain::Who;
use super::super::load::Load;
use super::super::processes::Receiver;
use super::super::receiver::{Latency, ReceiverArgs};
use super::super::results::{RATE, Results};
use super::super::world::World;
use super::super::{Bench, Fallible};

/// Percent of the speed of a drain.
const SHARES: [u32; 3] = [10, 25, 50];
const WARM_UP: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(20);
/// A publisher that falls behind its schedule measures itself.
const LATEST: Duration = Duration::from_millis(50);

/// What came of one run.
struct Measured {
    latency: Latency,
    /// How late the latest step of the schedule was.
    latest: Duration,
    /// Microseconds an event. The producer is not part of it.
    cpu: Cpu,
    /// The part of the machine that was in use, the producer's among it.
    busy: f64,
}

pub async fn run(bench: &Bench, results: &mut Results) -> Fallible<()> {
    let rates = rates(bench, results).await?;
    for run in 0..bench.settings.runs {
        for (rate_name, rate) in &rates {
            for (case, who) in cases(bench, rate_name) {
                let title = bench.title(&format!("latency {case}"), run);
                bench.say(&format!("{title}: {rate:.0} events/s for {} s", (WARM_UP + MEASURED).as_secs()));
                let measured = measure(bench, who, *rate, results).await?;
                add(results, &case, *rate, &measured);
                tell(bench, &title, &measured);
            }
        }
    }
    Ok(())
}

fn tell(bench: &Bench, title: &str, Measured { latency, latest, .. }: &Measured) {
    bench.say(&format!("{title}: p50 {:.1} ms, p99 {:.1} ms", latency.p50, latency.p99));
    if *latest > LATEST {
        let late = format!("the publisher was {latest:?} behind its schedule; the latencies include that");
        bench.say(&format!("{title}: {late}"));
    }
}

/// Each rate with what it is called.
async fn rates(bench: &Bench, results: &mut Results) -> Fallible<Vec<(String, f64)>> {
    if let Some(rate) = bench.settings.rate {
        return Ok(vec![(format!("{rate} events/s"), rate.into())]);
    }
    let drain = super::drain_rate(bench, results).await?;
    Ok(SHARES.map(|share| (format!("{share} % of a drain"), drain * f64::from(share) / 100.0)).to_vec())
}

/// Who is measured at a rate, and what that is called.
fn cases(bench: &Bench, case: &str) -> Vec<(String, Who)> {
    let pipe = bench.settings.has(Scenario::Pipe).then(|| (format!("{case}, bare pipe"), Who::BarePipe));
    pipe.into_iter().chain([(case.to_owned(), Who::Onceward)]).collect()
}

fn add(results: &mut Results, case: &str, rate: f64, measured: &Measured) {
    results.add("latency", case, RATE, "1/s", rate);
    results.add_cpu("latency", case, &measured.cpu);
    let Latency { p50, p90, p99, p999, max } = measured.latency;
    for (name, value) in [("p50", p50), ("p90", p90), ("p99", p99), ("p99.9", p999), ("max", max)] {
        results.add("latency", case, name, "ms", value);
    }
    results.add("latency", case, "machine in use", "%", measured.busy * 100.0);
    results.add("latency", case, "latest step of the schedule", "ms", measured.latest.as_secs_f64() * 1_000.0);
}

async fn measure(bench: &Bench, who: Who, rate: f64, results: &mut Results) -> Fallible<Measured> {
    let world = World::new(bench).await?;
    let events = ((WARM_UP + MEASURED).as_secs_f64() * rate) as u32;
    let load = Load::plain(events, bench.seed);
    let expecting = ReceiverArgs { unordered: who == Who::BarePipe, ..ReceiverArgs::expecting(events + 1) };
    let mut receiver = Receiver::start(&expecting).await?;
    world.settle().await?;
    let mut consumers = who.start(bench, &world, 1, &[])?;
    // Its first event tells that its consumer is there. It is of an entity of its own.
    let first = Load { entities: 1, ..Load::plain(1, bench.seed) };
    let pids = consumers.pids();
    let measured = async {
        first.publish_apart(&world.amqp_url, receiver.port, load.entities).await?;
        receiver.first().await?;
        let pid = receiver.pid()?;
        let (before, machine) = (Cpu::so_far(&bench.servers, &pids, pid)?, cpu::Machine::so_far()?);
        let latest = load.publish_by_schedule(&world.amqp_url, receiver.port, rate, WARM_UP).await?;
        receiver.done().await?;
        let cpu = Cpu::so_far(&bench.servers, &pids, pid)?.each(&before, u64::from(events));
        Ok((latest, cpu, cpu::Machine::so_far()?.busy_since(&machine)))
    };
    let (latest, cpu, busy) = consumers.during(measured).await?;
    consumers.stop().await?;
    let report = receiver.report().await?;
    world.remove().await?;
    if report.out_of_order + report.again > 0 {
        results.broken.push(format!("latency: {} out of order, {} again", report.out_of_order, report.again));
    }
    Ok(Measured { latency: report.latency.ok_or("no event was measured")?, latest, cpu, busy })
}
