//! What the program does besides delivering.

pub mod redrive;
pub mod status;
