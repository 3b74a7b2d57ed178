//! What a run is made of: its settings, and a list of what is done to the cluster. A seed makes both.

use std::fmt;
use std::time::Duration;

use super::rules::Rule;
use crate::domain::admission::FirstSequence;
use crate::domain::destination::{Destination, Destinations};
use crate::domain::event::Host;
use crate::domain::gate::GatePolicy;
use crate::domain::verdict::Policy;
use crate::proof::chance::Chance;

/// Everything happens to the cluster before this; then nothing is in its way any more.
pub(super) const TROUBLE: Duration = Duration::from_mins(1);

/// A run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Of chance.
    pub seed: u64,
    /// Workers at the beginning.
    pub workers: usize,
    /// Partitions.
    pub partitions: u16,
    /// Requests at a time to one host, over all workers.
    pub cap: u16,
    /// Hosts.
    pub hosts: usize,
    /// Failed attempts before an event is FAILED.
    pub max_attempts: u16,
    /// A FAILED event keeps its entity waiting for an operator.
    pub hold: bool,
    /// Which number a line begins with.
    pub first: FirstSequence,
    /// What is done, and when.
    pub steps: Vec<Step>,
    /// A rule that is left out, to see that it is found.
    pub without: Option<Rule>,
}

/// Something is done at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Since the beginning.
    pub at: Duration,
    /// What.
    pub act: Act,
}

/// What is done to the cluster. A worker is a number; it is taken modulo those that there are.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// A producer publishes an event: of this entity, to this host, with or without a number.
    Publish {
        /// Of few.
        entity: usize,
        /// Of few.
        host: usize,
        /// Entities with an odd number use numbers; this one is left out, so that there is a gap until it comes later.
        late: bool,
    },
    /// Many events come at once, for all entities and one host.
    Burst {
        /// Of few.
        host: usize,
    },
    /// A producer publishes one of its events again.
    PublishAgain {
        /// Of those that were published.
        which: u64,
        /// With another body.
        other: bool,
    },
    /// A worker is killed, and starts again.
    Crash {
        /// Which.
        worker: usize,
        /// After this time.
        back: Duration,
    },
    /// A worker stands still: SIGSTOP, or a machine that is suspended.
    Pause {
        /// Which.
        worker: usize,
        /// For this time.
        lasts: Duration,
    },
    /// A worker is stopped by SIGTERM, and starts again.
    Restart {
        /// Which.
        worker: usize,
        /// After this time.
        back: Duration,
    },
    /// A worker is stopped by SIGTERM, and starts as another version. A cluster in which this happens begins with the older one.
    Update {
        /// Which.
        worker: usize,
        /// The older version, which knows of no gates.
        older: bool,
        /// After this time.
        back: Duration,
    },
    /// One more worker starts.
    Join,
    /// A worker does not reach the store.
    CutStore {
        /// Which.
        worker: usize,
        /// For this time.
        lasts: Duration,
    },
    /// A worker's next commits are lost: before they take place, or their answers.
    LoseCommits {
        /// Which.
        worker: usize,
        /// So many.
        commits: u8,
        /// They take place.
        answers: bool,
    },
    /// A worker's connection to the broker breaks.
    CutBroker {
        /// Which.
        worker: usize,
    },
    /// The broker is restarted: all connections break, and buckets may be numbered otherwise.
    RestartBroker {
        /// Buckets are numbered otherwise.
        renumbers: bool,
        /// What was not acknowledged comes back in another order.
        disorders: bool,
    },
    /// The broker confirms nothing, and takes no letters from workers whose connection breaks meanwhile.
    SlowBroker {
        /// For this time.
        lasts: Duration,
    },
    /// The store is not reached by anybody.
    StoreDown {
        /// For this time.
        lasts: Duration,
    },
    /// The store's clock is set, forward or back.
    SetClock {
        /// By so many milliseconds.
        millis: i64,
    },
    /// A standby takes over, without the last commits.
    Failover {
        /// It was this much behind.
        behind: Duration,
    },
    /// Tokens of the delay ladder are lost for a time.
    LoseTokens {
        /// For this time.
        lasts: Duration,
    },
    /// Tokens of the delay ladder come twice, and late, for a time.
    DoubleTokens {
        /// For this time.
        lasts: Duration,
    },
    /// A receiver is slow, or fails.
    Receiver {
        /// Which.
        host: usize,
        /// What it does.
        mood: Mood,
        /// For this time.
        lasts: Duration,
    },
    /// An operator redrives or skips FAILED events.
    Operate {
        /// Of those that failed.
        which: u64,
        /// The entity goes on without it.
        skip: bool,
        /// It is decided twice.
        twice: bool,
    },
    /// Somebody sends a dead letter back.
    SendBack {
        /// Of those that there are.
        which: u64,
    },
    /// An operator pauses a host.
    PauseHost {
        /// Which.
        host: usize,
        /// For this time.
        lasts: Duration,
    },
    /// An operator pauses an entity.
    PauseEntity {
        /// Which.
        entity: usize,
        /// For this time.
        lasts: Duration,
    },
    /// Events that are final for more than this are deleted.
    Expire {
        /// At the end of this time.
        after: Duration,
    },
}

/// What a receiver does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// It answers with success, within milliseconds.
    Well,
    /// It answers 500.
    Failing,
    /// It refuses connections.
    Down,
    /// It says nothing within the time of an attempt.
    Silent,
    /// It takes about a second.
    Slow,
    /// Now this, now that.
    Erratic,
}

/// Entities of a run.
pub(super) const ENTITIES: usize = 8;

impl Scenario {
    /// The run of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let chance = &mut Chance::new(seed);
        let mut scenario = Self {
            seed,
            workers: 1 + below(chance, 3),
            partitions: 2 + u16::try_from(below(chance, 3)).unwrap_or(0),
            cap: 2 + u16::try_from(below(chance, 4)).unwrap_or(0),
            hosts: 1 + below(chance, 3),
            max_attempts: 2 + u16::try_from(below(chance, 2)).unwrap_or(0),
            hold: below(chance, 4) == 0,
            first: if below(chance, 4) == 0 { FirstSequence::Any } else { FirstSequence::One },
            steps: Vec::new(),
            without: None,
        };
        for _ in 0..20 + below(chance, 40) {
            let late = below(chance, 6) == 0;
            let (entity, host) = (below(chance, ENTITIES as u64), below(chance, 3));
            scenario.add(chance, Act::Publish { entity, host, late });
        }
        for _ in 0..below(chance, 16) {
            let act = act(chance);
            scenario.add(chance, act);
        }
        if seed % 3 == 2 {
            scenario.trouble_gates(&mut Chance::new(seed ^ 0x6a7e));
        }
        if seed % 6 == 5 {
            scenario.update(&mut Chance::new(seed ^ 0x0de4));
        }
        scenario.steps.sort_by_key(|step| step.at);
        scenario
    }

    /// Hosts go down, and operators pause.
    fn trouble_gates(&mut self, chance: &mut Chance) {
        for _ in 0..=below(chance, 4) {
            let lasts = within(chance, Duration::from_secs(1), Duration::from_secs(25));
            let host = below(chance, 3);
            let act = match below(chance, 4) {
                0 => Act::PauseHost { host, lasts },
                1 => Act::PauseEntity { entity: below(chance, ENTITIES as u64), lasts },
                _ => Act::Receiver { host, mood: Mood::Down, lasts },
            };
            self.add(chance, act);
        }
    }

    /// All workers are updated, one after the other; sometimes one goes back.
    fn update(&mut self, chance: &mut Chance) {
        let begins = within(chance, Duration::from_secs(2), TROUBLE / 2);
        let apart = within(chance, Duration::from_secs(1), Duration::from_secs(8));
        for (turn, worker) in (0..self.workers).enumerate() {
            let back = within(chance, Duration::from_millis(50), Duration::from_secs(3));
            let at = begins + apart * u32::try_from(turn).unwrap_or(0);
            self.steps.push(Step { at, act: Act::Update { worker, older: false, back } });
        }
        if below(chance, 3) == 0 {
            let (worker, back) = (below(chance, 4), Duration::from_millis(500));
            self.add(chance, Act::Update { worker, older: true, back });
        }
    }

    /// Whether workers of two versions meet.
    pub(super) fn is_updated(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.act, Act::Update { .. }))
    }

    /// Whether hosts have gates.
    pub(super) fn has_gates(&self) -> bool {
        let is_about_gates = |act: &Act| {
            matches!(act, Act::PauseHost { .. } | Act::PauseEntity { .. } | Act::Receiver { mood: Mood::Down, .. })
        };
        self.steps.iter().any(|step| is_about_gates(&step.act))
    }

    /// What shuts a gate of a worker that knows of gates.
    pub(super) fn gate(&self) -> GatePolicy {
        let failures = if self.has_gates() { 2 + u16::try_from(self.seed % 3).unwrap_or(0) } else { 0 };
        GatePolicy { failures, probe_initial: Duration::from_secs(1), probe_max: Duration::from_secs(8) }
    }

    fn add(&mut self, chance: &mut Chance, act: Act) {
        self.steps.push(Step { at: within(chance, Duration::from_millis(500), TROUBLE), act });
    }

    /// Whether a rule holds.
    pub(super) fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    /// Whether anything may bring messages of one entity into another order before they are recorded.
    pub(super) fn keeps_arrival_order(&self) -> bool {
        !self.steps.iter().any(|step| match step.act {
            Act::RestartBroker { renumbers, disorders } => renumbers || disorders,
            Act::PublishAgain { .. } | Act::SendBack { .. } | Act::Failover { .. } => true,
            _ => false,
        })
    }

    /// Whether commits may be forgotten.
    pub(super) fn may_forget(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.act, Act::Failover { .. }))
    }
}

fn act(chance: &mut Chance) -> Act {
    let short = |chance: &mut Chance| within(chance, Duration::from_millis(50), Duration::from_secs(3));
    let long = |chance: &mut Chance| within(chance, Duration::from_secs(1), Duration::from_secs(25));
    let worker = below(chance, 4);
    match below(chance, 31) {
        0 | 1 => Act::Crash { worker, back: short(chance) },
        2 => Act::Crash { worker, back: long(chance) },
        3 => Act::Pause { worker, lasts: short(chance) },
        4 | 5 => Act::Pause { worker, lasts: long(chance) },
        6 => Act::Restart { worker, back: short(chance) },
        7 => Act::Join,
        8 => Act::CutStore { worker, lasts: short(chance) },
        9 => Act::CutStore { worker, lasts: long(chance) },
        10 | 11 => Act::LoseCommits { worker, commits: 1 + u8::from(below(chance, 2) == 0), answers: true },
        12 => Act::LoseCommits { worker, commits: 1, answers: false },
        13 => Act::CutBroker { worker },
        14 => Act::RestartBroker { renumbers: below(chance, 2) == 0, disorders: below(chance, 3) == 0 },
        15 => Act::StoreDown { lasts: long(chance) },
        16 => Act::SetClock { millis: i64::try_from(below(chance, 40_000)).unwrap_or(0) - 20_000 },
        17 => Act::LoseTokens { lasts: long(chance) },
        18 => Act::DoubleTokens { lasts: long(chance) },
        19 | 20 => {
            let moods = [Mood::Failing, Mood::Silent, Mood::Slow, Mood::Erratic];
            Act::Receiver { host: below(chance, 3), mood: moods[below(chance, 4)], lasts: long(chance) }
        }
        21 => Act::Operate { which: chance.below(64), skip: below(chance, 3) == 0, twice: below(chance, 3) == 0 },
        22 => Act::SendBack { which: chance.below(64) },
        23 => Act::PublishAgain { which: chance.below(64), other: below(chance, 3) == 0 },
        24 => Act::Expire { after: short(chance) },
        25..=28 => Act::Burst { host: below(chance, 3) },
        29 => Act::SlowBroker { lasts: within(chance, Duration::from_secs(1), Duration::from_secs(8)) },
        _ => Act::Failover { behind: within(chance, Duration::from_millis(5), Duration::from_millis(800)) },
    }
}

pub(super) fn below(chance: &mut Chance, bound: u64) -> usize {
    usize::try_from(chance.below(bound)).unwrap_or(0)
}

pub(super) fn within(chance: &mut Chance, from: Duration, to: Duration) -> Duration {
    let span = u64::try_from(to.saturating_sub(from).as_micros()).unwrap_or(u64::MAX);
    from + Duration::from_micros(chance.below(span.max(1)))
}

impl Scenario {
    /// What holds for receivers: in some clusters one host has more connections than the others, or fewer.
    pub(super) fn destinations(&self, policy: Policy, timeout: Duration, is_older: bool) -> Destinations {
        let gate = if is_older { GatePolicy { failures: 0, ..self.gate() } } else { self.gate() };
        let defaults = Destination { gate, ..Destination::defaults(policy, timeout) };
        let mut destinations = Destinations::new(defaults.clone());
        if let Some(connections) = self.connections() {
            destinations.add_pattern("host-1", Destination { connections: Some(connections), ..defaults });
        }
        destinations
    }

    /// The most requests at a time to a host, over all workers.
    pub(super) fn limit(&self, host: &Host) -> usize {
        let own = self.connections().filter(|_| host.as_str() == "host-1:80");
        own.unwrap_or(self.cap).into()
    }

    /// Of host 1, where it has a limit of its own. There is one for each worker that has a part of the cap at least.
    fn connections(&self) -> Option<u16> {
        match self.seed % 7 {
            3 => Some(self.cap * 2),
            5 => Some(self.cap + 1),
            _ => None,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, workers, partitions, cap, hosts, max_attempts, hold, first, steps, without } = self;
        writeln!(
            f,
            "seed {seed}: {workers} workers, {partitions} partitions, {hosts} hosts with {cap} requests at a time, \
             {max_attempts} attempts, hold {hold}, first number {first:?}, without {without:?}"
        )?;
        for Step { at, act } in steps {
            writeln!(f, "{:>10.3} s  {act:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}
