//! Positions in a line that are no numbers of a producer.

/// The position of events without a number in their entity's line: before all numbers.
pub const UNNUMBERED: i64 = -1;
/// The position of events that were redriven after their entity had gone past them: before all others.
pub const REDRIVEN: i64 = -2;
