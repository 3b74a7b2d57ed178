//! The states of an event and the only ways between them.

use std::fmt;
use std::str::FromStr;

/// Where an event stands. The names, in capitals, are what is stored and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Recorded; its turn has not come or no attempt has begun. Left by [`Change::Start`].
    Pending,
    /// An attempt is recorded and may have been sent. Left by [`Change::End`].
    InFlight,
    /// An attempt failed, or was not sent; the next one has a time. Left by [`Change::Start`].
    RetryWait,
    /// A 2xx is recorded. Never left.
    Delivered,
    /// No attempt is left. Left only by an operator's [`Change::Redrive`].
    Failed,
}

/// What may happen to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// An attempt begins.
    Start,
    /// An attempt has ended.
    End(End),
    /// An operator asks for it again.
    Redrive,
}

/// How an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The receiver answered 2xx.
    Deliver,
    /// It failed and another one follows.
    Retry,
    /// It failed and none follows.
    Fail,
    /// It was recorded and never sent.
    Withdraw,
}

impl End {
    /// The state of an event whose attempt has ended so.
    #[must_use]
    pub fn state(self) -> State {
        match self {
            Self::Deliver => State::Delivered,
            Self::Retry | Self::Withdraw => State::RetryWait,
            Self::Fail => State::Failed,
        }
    }
}

/// A change that the event's state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event that is {state} cannot {change:?}")]
pub struct IllegalChange {
    /// The state it is in.
    pub state: State,
    /// The change that was asked for.
    pub change: Change,
}

impl State {
    /// All states, in the order of an event's life.
    pub const ALL: [Self; 5] = [Self::Pending, Self::InFlight, Self::RetryWait, Self::Delivered, Self::Failed];

    /// The state after a change.
    ///
    /// # Errors
    /// Every pair that the design does not name.
    pub fn after(self, change: Change) -> Result<Self, IllegalChange> {
        match (self, change) {
            (Self::Pending | Self::RetryWait, Change::Start) => Ok(Self::InFlight),
            (Self::InFlight, Change::End(end)) => Ok(end.state()),
            (Self::Failed, Change::Redrive) => Ok(Self::Pending),
            (state, change) => Err(IllegalChange { state, change }),
        }
    }

    /// Whether nothing more happens by itself: N+1 may go.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Failed)
    }

    /// The stored name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::InFlight => "IN_FLIGHT",
            Self::RetryWait => "RETRY_WAIT",
            Self::Delivered => "DELIVERED",
            Self::Failed => "FAILED",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A stored name that is none of the five.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a state")]
pub struct UnknownState(String);

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(name: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.name() == name).ok_or_else(|| UnknownState(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGES: [Change; 6] = [
        Change::Start,
        Change::End(End::Deliver),
        Change::End(End::Retry),
        Change::End(End::Fail),
        Change::End(End::Withdraw),
        Change::Redrive,
    ];

    #[test]
    fn every_pair_of_state_and_change_is_decided() {
        let legal = [
            (State::Pending, Change::Start, State::InFlight),
            (State::InFlight, Change::End(End::Deliver), State::Delivered),
            (State::InFlight, Change::End(End::Retry), State::RetryWait),
            (State::InFlight, Change::End(End::Fail), State::Failed),
            (State::InFlight, Change::End(End::Withdraw), State::RetryWait),
            (State::RetryWait, Change::Start, State::InFlight),
            (State::Failed, Change::Redrive, State::Pending),
        ];
        for state in State::ALL {
            for change in CHANGES {
                let expected = legal
                    .iter()
                    .find(|(from, by, _)| (*from, *by) == (state, change))
                    .map_or(Err(IllegalChange { state, change }), |(_, _, to)| Ok(*to));
                assert_eq!(state.after(change), expected);
            }
        }
    }

    #[test]
    fn only_delivered_and_failed_are_final() {
        let finals: Vec<_> = State::ALL.into_iter().filter(|state| state.is_final()).collect();
        assert_eq!(finals, [State::Delivered, State::Failed]);
    }

    #[test]
    fn names_are_read_back() {
        for state in State::ALL {
            assert_eq!(state.name().parse(), Ok(state));
        }
        assert_eq!("pending".parse::<State>(), Err(UnknownState("pending".into())));
    }

    #[test]
    fn a_refusal_names_the_state_and_what_it_refuses() {
        let refusal = State::Delivered.after(Change::Redrive).unwrap_err();
        assert_eq!(refusal.to_string(), "an event that is DELIVERED cannot Redrive");
        assert_eq!(UnknownState("pending".into()).to_string(), "\"pending\" is not a state");
    }
}
