//! One sequence: it begins with empty tables, and each of its steps goes to the store and to the model.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use onceward::clock;
use onceward::domain::admission::FirstSequence;
use onceward::domain::event::{Event, EventId, Partition};
use onceward::handoff::{Command, Written};
use onceward::lease::Held;
use onceward::simulator::rules::Rule;
use onceward::simulator::store::Store;
use onceward::store::members::Member;

use super::both::{Both, PARTITIONS};
use super::{rows, shown};

/// After so many commits without a key that was recorded before, a writer takes keys as new.
const LOOK_UPS: usize = 101;

pub struct Trial<'a> {
    pub both: &'a mut Both,
    pub first: FirstSequence,
    pub model: Store,
    pub random: fastrand::Rng,
    /// The leases that each member thinks it has.
    pub leases: [BTreeMap<Partition, Held>; 2],
    /// What has come in, to come again.
    pub sent: Vec<Arc<Event>>,
    /// Events whose own row was taken away.
    pub orphans: BTreeMap<EventId, Arc<Event>>,
    pub tickets: u64,
    /// What was done, in words.
    pub steps: Vec<String>,
}

/// Where model and store are not the same.
pub struct Difference {
    seed: u64,
    steps: Vec<String>,
    what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, steps, what } = self;
        writeln!(
            f,
            "the model is not the store: {what}\nTo run it again: ONCEWARD_MODEL_SEED={seed}. The steps were:"
        )?;
        steps.iter().enumerate().try_for_each(|(number, step)| writeln!(f, "{number}: {step}"))
    }
}

impl Trial<'_> {
    /// Runs a sequence; gives how many steps it had.
    pub async fn run(both: &mut Both, seed: u64, without: Option<Rule>) -> Result<usize, Difference> {
        let mut random = fastrand::Rng::with_seed(seed);
        let first = if random.u8(..3) == 0 { FirstSequence::Any } else { FirstSequence::One };
        let mut model = Store::new(PARTITIONS.into(), first);
        model.without = without;
        both.empty().await;
        model.server = both.server().await;
        let mut trial = Trial {
            both,
            first,
            model,
            random,
            leases: Default::default(),
            sent: Vec::new(),
            orphans: BTreeMap::new(),
            tickets: 0,
            steps: Vec::new(),
        };
        match trial.steps().await {
            Ok(()) => Ok(trial.steps.len()),
            Err(what) => Err(Difference { seed, steps: trial.steps, what }),
        }
    }

    async fn steps(&mut self) -> Result<(), String> {
        self.gather_crew().await?;
        if self.chance(8) {
            self.look_no_keys_up().await?;
        }
        for _ in 0..14 + self.random.usize(..14) {
            match self.random.u8(..100) {
                0..=71 => {
                    let who = self.somebody().await?;
                    let commands = self.commands(who);
                    self.transaction(who, commands).await?;
                }
                72..=85 => self.change_crew().await?,
                _ => self.look().await?,
            }
            let stored = rows::stored(&mut self.both.connection, &mut self.model).await;
            shown::differ("rows", stored, rows::modelled(&self.model))?;
        }
        Ok(())
    }

    pub fn chance(&mut self, percent: u8) -> bool {
        self.random.u8(..100) < percent
    }

    pub fn any<T>(&mut self, of: impl IntoIterator<Item = T>) -> Option<T> {
        let all: Vec<T> = of.into_iter().collect();
        self.random.choice(all)
    }

    /// What time it is, for the model: the database's clock is this machine's.
    pub fn now() -> Duration {
        clock::time_of_day().duration_since(UNIX_EPOCH).expect("a clock of this century")
    }

    pub fn member(&mut self, who: usize) -> Member {
        self.both.hand(self.first, who).member.clone()
    }

    pub fn partitions(&self, who: usize) -> Vec<Partition> {
        self.leases[who].keys().copied().collect()
    }

    /// The lease on a partition, or any other.
    pub fn held(&mut self, who: usize, partition: Partition) -> Held {
        let all: Vec<Held> = self.leases[who].values().cloned().collect();
        let other = self.any(all);
        self.leases[who].get(&partition).cloned().or(other).expect("whoever writes has a lease")
    }

    /// Has a writer commit until it takes keys as new.
    async fn look_no_keys_up(&mut self) -> Result<(), String> {
        let who = self.somebody().await?;
        self.steps.push(format!("{who} commits until it looks no keys up"));
        let held = self.held(who, Partition(0));
        for _ in 0..LOOK_UPS {
            let nothing = [Command::Park { id: EventId(-1), held: held.clone() }];
            self.both.hand(self.first, who).carry_out(&nothing).await?;
        }
        Ok(())
    }

    async fn transaction(&mut self, who: usize, commands: Vec<Command>) -> Result<(), String> {
        let words: Vec<String> = commands.iter().map(|command| format!("\n     {}", shown::command(command))).collect();
        self.steps.push(format!("{who} commits{}", words.concat()));
        let hand = self.both.hand(self.first, who);
        let (member, written) = (hand.member.id, hand.carry_out(&commands).await?);
        // Numbers that are given out and come to nothing are skipped.
        self.model.next_id = first_of(&written).unwrap_or(self.model.next_id);
        let is_fenced = commands.iter().flat_map(shown::held_by).any(|held| held.is_lost());
        let number = i64::try_from(self.steps.len()).unwrap_or(i64::MAX);
        let taken = self.model.commit(member, number, commands.clone(), Self::now());
        let modelled = match (taken, is_fenced) {
            (Some(taken), false) => taken,
            (None, true) => self.model.commit_the_rest(member, number, commands, Self::now()),
            (Some(_), true) => return Err("only the store fences the transaction".into()),
            (None, false) => return Err("only the model fences the transaction".into()),
        };
        self.leases[who].retain(|_, held| !held.is_lost());
        for kind in written.iter().flat_map(shown::kinds) {
            *self.both.seen.entry(kind).or_default() += 1;
        }
        shown::differ("answers", shown::all(&written), shown::all(&modelled))
    }
}

/// The first of the events' numbers that were given out.
fn first_of(written: &[Written]) -> Option<i64> {
    let admitted = written.iter().filter_map(|written| match written {
        Written::Admitted { admitted, .. } => Some(admitted),
        _ => None,
    });
    admitted.flatten().filter_map(|(_, admitted)| admitted.id).map(|id| id.0).min()
}
