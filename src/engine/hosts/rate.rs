//! Hosts that wait for their rate: looked at again as time passes.

use std::time::Duration;

use super::{Hosts, State};
use crate::domain::event::Host;

/// Hosts that wait for their rate are looked at so often at most.
const LOOK: Duration = Duration::from_millis(10);

impl Hosts {
    /// Time has passed: hosts that waited for their rate may go on.
    pub fn at(&mut self, now: Duration) {
        self.now = now;
        if self.throttled.is_empty() || now < self.looked + LOOK {
            return;
        }
        self.looked = now;
        for host in std::mem::take(&mut self.throttled) {
            let Some(state) = self.by_host.get_mut(&host) else { continue };
            state.throttle.is_queued = false;
            self.give_turn(&host);
            self.drop_if_idle(&host);
        }
    }

    /// Whether a host waits for its rate.
    #[must_use]
    pub fn are_throttled(&self) -> bool {
        !self.throttled.is_empty()
    }

    pub(super) fn is_due(&self, state: &State) -> bool {
        state.throttle.allows(state.limit, self.now)
    }

    /// The host has to be looked at again, if its rate is what it waits for.
    pub(super) fn wait_for_rate(&mut self, host: &Host) {
        if self.by_host.get(host).is_some_and(|state| !self.is_due(state)) {
            self.look_again(host);
        }
    }

    pub(super) fn look_again(&mut self, host: &Host) {
        if let Some(state) = self.by_host.get_mut(host).filter(|state| !state.throttle.is_queued) {
            state.throttle.is_queued = true;
            self.throttled.push(host.clone());
        }
    }
}
