//! Events that wait for their host in the store: when they are read.

use super::{Hosts, State, WAITING_IN_ALL, WAITING_PER_HOST, share};
use crate::domain::event::Host;

/// Whether parked events are being read.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Reading {
    /// Left by [`Hosts::wants_load`].
    #[default]
    No,
    /// Left by [`Hosts::loaded`].
    Now,
    /// More was parked since the read began, which may not have seen it. Left by [`Hosts::loaded`].
    TooEarly,
}

impl State {
    /// The store holds parked events of this host.
    pub(super) fn park(&mut self) {
        self.parked = true;
        if self.reading == Reading::Now {
            self.reading = Reading::TooEarly;
        }
    }
}

impl Hosts {
    /// The store holds parked events of this host.
    pub fn note_parked(&mut self, host: &Host) {
        // What waits behind a shut gate is looked for when that opens.
        if !self.gates.is_shut(host) {
            self.state(host).park();
        }
    }

    /// How many of the host's parked events to read, if it is time to; then [`Self::loaded`] has to follow. It is time
    /// when three quarters of the host's share of the memory are free.
    pub fn wants_load(&mut self, host: &Host) -> Option<usize> {
        let ceiling = share(WAITING_IN_ALL, self.waiting, WAITING_PER_HOST);
        if self.gates.is_shut(host) {
            return None;
        }
        let state = self.by_host.get_mut(host)?;
        let used = state.waiting.len() + state.reserved;
        if ceiling == 0 && used == 0 && state.begun == 0 && state.reading == Reading::No {
            // There is no room for anything of it now: it is forgotten until a sweep names it again.
            self.by_host.remove(host);
            return None;
        }
        if !state.parked || state.reading != Reading::No || ceiling == 0 || used > ceiling / 4 {
            return None;
        }
        state.reading = Reading::Now;
        Some(ceiling - used)
    }

    /// Parked events of the host were read; `more` says that others are left.
    pub fn loaded(&mut self, host: &Host, more: bool) {
        let state = self.state(host);
        state.parked = state.gate != Some(0) && (more || state.reading == Reading::TooEarly);
        state.reading = Reading::No;
        self.drop_if_idle(host);
    }
}
