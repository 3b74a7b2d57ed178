//! What a transaction found out, and what the engine is told of it.

use std::collections::{HashMap, HashSet};

use super::batch::{Batch, Start, Together};
use crate::domain::candidate::Candidate;
use crate::domain::event::{EventId, Host, Partition};
use crate::engine::command::{Admitted, Confirmed, Front, Gathered, Unpark, Woken};
use crate::handoff::Written;

/// What a transaction found out; valid once it has committed. Each finding says what it belongs to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) settled: HashSet<EventId>,
    /// By the arrivals' places in the batch.
    pub(crate) admitted: HashMap<usize, Admitted>,
    pub(crate) started: HashSet<EventId>,
    /// Of each partition: attempts in flight, and hosts with parked heads.
    pub(crate) taken_over: HashMap<Partition, (Vec<Candidate>, Vec<Host>)>,
    pub(crate) fronts: Vec<Front>,
    pub(crate) woken: Vec<Woken>,
    /// By the reads' places in the batch.
    pub(crate) unparked: Vec<(Vec<Candidate>, bool)>,
    pub(crate) gathered: Vec<Gathered>,
    pub(crate) audited: Vec<Confirmed>,
}

impl Found {
    /// The largest body that was read.
    pub(crate) fn largest(&self) -> usize {
        let fronts = self.fronts.iter().flat_map(|front| &front.events);
        let woken = self.woken.iter().filter_map(|woken| match woken {
            Woken::Due { event, .. } => Some(event),
            Woken::Early { .. } => None,
        });
        let unparked = self.unparked.iter().flat_map(|(events, _)| events);
        fronts.chain(woken).chain(unparked).map(|candidate| candidate.event.body.len()).max().unwrap_or(0)
    }
}

/// What the engine is told of a committed batch, in the order in which it was applied.
pub(crate) fn report(batch: Batch, mut found: Found) -> Vec<Written> {
    let mut results = Vec::new();
    for held in batch.takeovers {
        let Some((in_flight, hosts)) = found.taken_over.remove(&held.partition()) else { continue };
        results.push(Written::TakenOver { held, in_flight, hosts });
    }
    for (settlement, then) in batch.settlements {
        results.push(if found.settled.contains(&settlement.candidate.id) {
            Written::Settled { settlement, then }
        } else {
            Written::NotSettled(settlement.candidate)
        });
    }
    results.extend(batch.admissions.into_iter().map(|together| admitted(together, &mut found.admitted)));
    results.extend(batch.operations.into_iter().map(|(ticket, ..)| Written::Operated(ticket)));
    results.extend(found.gathered.into_iter().map(Written::Gathered));
    for Start { mut candidate, held, .. } in batch.starts {
        results.push(if found.started.contains(&candidate.id) {
            candidate.attempts += 1;
            Written::Started { candidate, held }
        } else {
            Written::NotStarted(candidate)
        });
    }
    results.extend(batch.parks.into_iter().map(|(id, _)| Written::Parked(id)));
    results.extend(found.fronts.into_iter().map(Written::Front));
    results.extend(found.woken.into_iter().map(Written::Woken));
    let mut unparked = found.unparked.into_iter();
    for Unpark { host, .. } in batch.unparks {
        // Whoever asked for parked events is told if there are none.
        let (events, more) = unparked.next().unwrap_or_default();
        results.push(Written::Unparked { host, events, more });
    }
    results.extend(found.audited.into_iter().map(Written::Audited));
    results
}

/// Without their outcomes, the lease of arrivals is lost: the messages come again, to its next owner.
fn admitted(together: Together, found: &mut HashMap<usize, Admitted>) -> Written {
    let Together { ticket, first, arrivals } = together;
    let outcomes: Option<Vec<Admitted>> = (first..).zip(&arrivals).map(|(number, _)| found.remove(&number)).collect();
    match outcomes {
        Some(outcomes) => Written::Admitted { ticket, admitted: arrivals.into_iter().zip(outcomes).collect() },
        None => Written::NotAdmitted { ticket, arrivals },
    }
}
