//! What a run of `onceward verify` is about, pure: no clock, no I/O. [`load`] says what is sent and how the receiver
//! behaves, [`history`] is what was seen, [`check`] holds it against the promises, [`figures`] and [`report`] sum it up.

pub mod chance;
pub mod check;
pub mod figures;
pub mod history;
pub mod load;
pub mod report;
