//! What the first event of a line waits for.

use std::fmt;

use super::event::Sequence;
use super::lifecycle::State;

/// What an entity's line waits for; its words are what `status` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitsFor {
    /// The end of the attempt that is in flight.
    Attempt,
    /// The time of the next attempt.
    Retry,
    /// Room at its host.
    Host,
    /// Its host, which is down: its gate is shut.
    Gate,
    /// An operator who has paused it, its entity or its host.
    Pause,
    /// An operator's decision: the event is on hold.
    Operator,
    /// The event of this number, which has not come.
    Sequence(Sequence),
    /// Nothing: somebody has it in hand.
    Turn,
}

impl WaitsFor {
    /// What an open event waits for that is the first of its line. `number` is its own, if it has one, and `next` the one that
    /// its entity waits for.
    #[must_use]
    pub fn of(state: State, parked: bool, number: Option<Sequence>, next: Option<Sequence>) -> Self {
        match (state, next.filter(|next| number.is_some_and(|number| number != *next))) {
            (State::InFlight, _) => Self::Attempt,
            (State::RetryWait, _) | (State::Pending, None) if parked => Self::Host,
            (State::RetryWait, _) => Self::Retry,
            (State::Failed, _) => Self::Operator,
            (State::Pending, Some(missing)) => Self::Sequence(missing),
            (State::Pending | State::Delivered, _) => Self::Turn,
        }
    }
}

impl WaitsFor {
    /// What waits for its host may wait for more than room there.
    #[must_use]
    pub fn behind(self, gate_is_shut: bool, is_paused: bool) -> Self {
        match self {
            Self::Host if is_paused => Self::Pause,
            Self::Host if gate_is_shut => Self::Gate,
            waits => waits,
        }
    }
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attempt => f.write_str("attempt"),
            Self::Retry => f.write_str("retry"),
            Self::Host => f.write_str("host"),
            Self::Gate => f.write_str("gate"),
            Self::Pause => f.write_str("pause"),
            Self::Operator => f.write_str("operator"),
            Self::Sequence(missing) => write!(f, "sequence {missing}"),
            Self::Turn => f.write_str("turn"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_line_waits_for_one_thing() {
        let table = [
            (State::InFlight, false, None, None, "attempt"),
            (State::RetryWait, false, None, None, "retry"),
            (State::RetryWait, true, None, None, "host"),
            (State::Failed, false, Some(2), Some(2), "operator"),
            (State::Pending, true, Some(3), Some(2), "sequence 2"),
            (State::Pending, true, Some(2), Some(2), "host"),
            (State::Pending, false, None, Some(2), "turn"),
            (State::Pending, false, None, None, "turn"),
        ];
        for (state, parked, number, next, expected) in table {
            let waits = WaitsFor::of(state, parked, number.map(Sequence), next.map(Sequence));
            assert_eq!(waits.to_string(), expected, "{state} {parked} {number:?} {next:?}");
        }
    }

    #[test]
    fn what_waits_for_its_host_may_wait_for_a_gate_or_an_operator() {
        assert_eq!(WaitsFor::Host.behind(false, false), WaitsFor::Host);
        assert_eq!(WaitsFor::Host.behind(true, false), WaitsFor::Gate);
        assert_eq!(WaitsFor::Host.behind(true, true), WaitsFor::Pause);
        assert_eq!(WaitsFor::Retry.behind(true, true), WaitsFor::Retry);
    }
}
