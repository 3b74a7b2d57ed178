//! Whole clusters, simulated: workers, a store, a broker, receivers and time, in one thread and from one seed.

pub mod rules;
pub mod store;
