//! Attempts that are recorded, and wait until their host may have one more request.

use std::collections::{BTreeMap, VecDeque};

use super::hosts::Hosts;
use super::input::Attempt;
use super::leases::Proof;
use crate::domain::event::{Host, Partition};

/// Of each host in the order of recording, and the hosts in the order of their names: the same happens to the same engine.
/// Bounded by what may be begun.
pub struct Begun<P> {
    by_host: BTreeMap<Host, VecDeque<Attempt<P>>>,
}

impl<P> Default for Begun<P> {
    fn default() -> Self {
        Self { by_host: BTreeMap::new() }
    }
}

impl<P: Proof> Begun<P> {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_host.is_empty()
    }

    /// One more.
    pub fn push(&mut self, attempt: Attempt<P>) {
        self.by_host.entry(attempt.candidate.event.host.clone()).or_default().push_back(attempt);
    }

    /// Takes those that may be sent now.
    pub fn take_ready(&mut self, hosts: &mut Hosts, ready: &mut Vec<Attempt<P>>) {
        self.by_host.retain(|host, waiting| {
            while !waiting.is_empty() && hosts.send(host) {
                ready.extend(waiting.pop_front());
            }
            !waiting.is_empty()
        });
    }

    /// Takes those of a partition.
    pub fn take_of(&mut self, partition: Partition) -> Vec<Attempt<P>> {
        let mut taken = Vec::new();
        self.by_host.retain(|_, waiting| {
            let (of_it, others) = waiting.drain(..).partition(|attempt| attempt.held.partition() == partition);
            *waiting = others;
            let of_it: VecDeque<Attempt<P>> = of_it;
            taken.extend(of_it);
            !waiting.is_empty()
        });
        taken
    }

    /// Takes those that may not be sent now, and have to wait in the store.
    pub fn take_waiting(&mut self, has_to_wait: impl Fn(&Attempt<P>) -> bool) -> Vec<Attempt<P>> {
        let mut taken = Vec::new();
        self.by_host.retain(|_, waiting| {
            let (stuck, others) = waiting.drain(..).partition(|attempt| has_to_wait(attempt));
            *waiting = others;
            let stuck: VecDeque<Attempt<P>> = stuck;
            taken.extend(stuck);
            !waiting.is_empty()
        });
        taken
    }

    /// Takes them all.
    pub fn take_all(&mut self) -> Vec<Attempt<P>> {
        std::mem::take(&mut self.by_host).into_values().flatten().collect()
    }
}
