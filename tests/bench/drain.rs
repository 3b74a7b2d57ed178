//! One measurement: a backlog is published, then drained, and everything is counted from the first receipt to the last.

use std::time::Duration;

use super::cpu::Cpu;
use super::load::Load;
use super::processes::{Consumers, Receiver};
use super::receiver::{Count, ReceiverArgs, Report};
use super::stamp::Group;
use super::watch::Watch;
use super::world::World;
use super::{Bench, Fallible, clock};

/// Requests at a time to one host: the worker's own default.
const CONNECTIONS: u16 = 50;

/// Who takes the events from the broker to the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Onceward,
    BarePipe,
}

impl Who {
    /// Starts the processes: so many workers with `settings`, or the one pipe.
    pub fn start(
        self,
        bench: &Bench,
        world: &World<'_>,
        workers: usize,
        settings: &[(String, String)],
    ) -> Fallible<Consumers> {
        match self {
            Self::Onceward => Consumers::workers(world, &bench.servers.dir, workers, settings),
            Self::BarePipe => Consumers::pipe(world, CONNECTIONS),
        }
    }
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct Spec {
    pub who: Who,
    pub events: u32,
    pub entities: u32,
    pub hosts: u32,
    pub payload: usize,
    pub workers: usize,
    /// Of how many in a hundred events the first attempt fails.
    pub fail: u32,
    pub is_one_hot: bool,
    pub is_last_apart: bool,
    pub last_hangs: bool,
    /// Traces, metrics and scrapes.
    pub is_watched: bool,
    /// A database that is there already.
    pub database: Option<String>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            who: Who::Onceward,
            events: 0,
            entities: 1_000,
            hosts: 1,
            payload: 1_024,
            workers: 1,
            fail: 0,
            is_one_hot: false,
            is_last_apart: false,
            last_hangs: false,
            is_watched: false,
            database: None,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Drained {
    pub report: Report,
    /// Seconds from the start of the process to the first receipt.
    pub start: f64,
    /// Microseconds an event.
    pub cpu: Cpu,
    /// Of the largest worker.
    pub peak_mib: f64,
}

impl Drained {
    /// All events together.
    pub fn all(&self) -> Count {
        self.report.usual.with(&self.report.special)
    }

    /// Events a second.
    pub fn rate(&self) -> f64 {
        self.all().rate()
    }
}

impl Spec {
    fn load(&self, seed: u64) -> Load {
        Load {
            entities: self.entities,
            hosts: self.hosts,
            payload: self.payload,
            is_one_hot: self.is_one_hot,
            is_last_apart: self.is_last_apart,
            ..Load::plain(self.events, seed)
        }
    }

    fn receiver(&self, load: &Load) -> ReceiverArgs {
        let expect = if self.last_hangs { load.count(Group::Usual) } else { self.events };
        ReceiverArgs {
            hosts: self.hosts,
            last_hangs: self.last_hangs,
            fail: self.fail,
            unordered: self.who == Who::BarePipe,
            ..ReceiverArgs::expecting(expect)
        }
    }
}

/// Measures one drain. `title` is for people who wait.
pub async fn drain(bench: &Bench, title: &str, spec: &Spec) -> Fallible<Drained> {
    let world = match &spec.database {
        Some(database) => World::on(bench, database).await?,
        None => World::new(bench).await?,
    };
    let load = spec.load(bench.seed);
    let mut receiver = Receiver::start(&spec.receiver(&load)).await?;
    bench.say(&format!("{title}: publishing {} events", spec.events));
    load.publish(&world.amqp_url, receiver.port).await?;
    world.settle().await?;
    bench.say(&format!("{title}: draining"));
    let watch = if spec.is_watched { Some(Watch::start().await?) } else { None };
    let settings = watch.as_ref().map(Watch::settings).unwrap_or_default();
    let started = clock::now();
    let mut consumers = spec.who.start(bench, &world, spec.workers, &settings)?;
    let pids = consumers.pids();
    let (start, before, after) = consumers.during(measure(bench, &mut receiver, &pids, started)).await?;
    let peak_mib = consumers.peak_mib()?;
    if spec.last_hangs {
        consumers.kill().await?;
    } else {
        consumers.stop().await?;
    }
    let report = receiver.report().await?;
    if let Some(watch) = watch {
        watch.end().await?;
    }
    world.remove().await?;
    let events = report.usual.events + report.special.events;
    let drained = Drained { report, start: start.as_secs_f64(), cpu: after.each(&before, events), peak_mib };
    bench.say(&format!("{title}: {:.0} events/s, {:.0} µs of CPU an event", drained.rate(), drained.cpu.sum()));
    Ok(drained)
}

/// Waits for the first event and the last, and looks at the clocks of all processes then.
async fn measure(
    bench: &Bench,
    receiver: &mut Receiver,
    pids: &[u32],
    started: Duration,
) -> Fallible<(Duration, Cpu, Cpu)> {
    let pid = receiver.pid()?;
    receiver.first().await?;
    let start = clock::now().saturating_sub(started);
    let before = Cpu::so_far(&bench.servers, pids, pid)?;
    receiver.done().await?;
    let after = Cpu::so_far(&bench.servers, pids, pid)?;
    Ok((start, before, after))
}
