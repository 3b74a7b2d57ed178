//! What the program does besides delivering.

pub mod publish;
pub mod redrive;
pub mod report;
mod signals;
pub mod sink;
pub mod status;
pub mod verify;
