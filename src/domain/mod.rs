//! The rules, pure: no clock, no I/O, no async, no logging. Time and the random seed come in as arguments.
//!
//! Reading order: [`event`] and [`contract`] (what comes in), [`destination`] and [`guard`] (what holds where it goes, and may that be called?),
//! [`admission`] (may it join its entity's line?),
//! [`candidate`] (what is passed on), [`lifecycle`] (states), [`operator`] (what people decide), [`waits`] (what a line waits for), [`signature`] (how a request is signed), [`verdict`] and [`backoff`]
//! (what an attempt's outcome means), [`volume`] (how much one transaction takes); between workers, [`shares`] (whose is which partition) and [`lease`] (for how long).

pub mod admission;
pub mod backoff;
pub mod candidate;
pub mod contract;
pub mod destination;
pub mod event;
pub mod gate;
pub mod guard;
pub mod lease;
pub mod lifecycle;
pub mod operator;
pub mod poison;
pub mod redact;
pub mod shares;
pub mod signature;
pub mod trace_context;
pub mod verdict;
pub mod volume;
pub mod waits;
