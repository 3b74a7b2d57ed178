//! What the program does besides being a worker.

pub mod publish;
mod signals;
pub mod sink;
