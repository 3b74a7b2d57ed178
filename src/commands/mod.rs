//! What the program does besides delivering.

pub mod publish;
pub mod redrive;
mod signals;
pub mod sink;
pub mod status;
