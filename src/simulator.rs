//! Whole clusters, simulated: workers, a store, a broker, receivers and time, in one thread and from one seed.
//!
//! The engine and the membership are those that run; so are the rules, the leases, the grouping of commands into transactions
//! and what is told of them. Modelled are the store (held against PostgreSQL by a test of its own), the broker, receivers, time,
//! and what the shells do between them. Every promise is looked at whenever anything happens; when the trouble is over,
//! everything has to come to its end within a bounded time.

mod acts;
mod agenda;
mod broker;
mod consuming;
mod delivering;
mod gating;
mod messages;
mod promises;
mod rest;
pub mod rules;
pub mod scenario;
pub mod shrink;
pub mod store;
mod store_link;
mod sweeping;
mod turns;
mod worker;
mod world;
mod writing;

use std::time::Duration;

use self::scenario::Scenario;
use self::world::World;

/// How a run went.
#[derive(Clone, Debug)]
pub struct Run {
    /// Things that happened.
    pub steps: u64,
    /// The time that it took in its world.
    pub time: Duration,
    /// The promise that was broken, if one was: when and how.
    pub broken: Option<String>,
}

/// Lives through a scenario.
#[must_use]
pub fn run(scenario: &Scenario) -> Run {
    let mut world = World::new(scenario.clone());
    let broken = world.run().err();
    Run { steps: world.steps, time: world.now, broken }
}
