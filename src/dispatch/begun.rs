//! Attempts that are recorded, and wait until their host may have one more request.

use std::collections::{HashMap, VecDeque};

use crate::domain::event::Host;
use crate::handoff::Attempt;

/// Of each host in the order of recording. Bounded by what may be begun.
#[derive(Default)]
pub struct Begun {
    by_host: HashMap<Host, VecDeque<Attempt>>,
}

impl Begun {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_host.is_empty()
    }

    /// One more.
    pub fn push(&mut self, attempt: Attempt) {
        self.by_host.entry(attempt.candidate.event.host.clone()).or_default().push_back(attempt);
    }

    /// Takes those that may be sent now.
    pub fn take_ready(&mut self) -> Vec<Attempt> {
        let mut ready = Vec::new();
        self.by_host.retain(|_, waiting| {
            while waiting.front_mut().is_some_and(|attempt| attempt.permit.send()) {
                ready.extend(waiting.pop_front());
            }
            !waiting.is_empty()
        });
        ready
    }

    /// Takes them all.
    pub fn take_all(&mut self) -> Vec<Attempt> {
        std::mem::take(&mut self.by_host).into_values().flatten().collect()
    }
}
