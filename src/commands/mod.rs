//! What the program does besides delivering.

pub mod destinations;
pub mod health;
pub mod output;
pub mod pause;
pub mod publish;
pub mod redrive;
pub mod report;
mod signals;
pub mod sink;
pub mod status;
pub mod verify;
