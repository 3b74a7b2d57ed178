//! What a transaction found out, and what the engine is told of it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::batch::{Batch, Start, Together};
use super::restore::restore;
use crate::domain::event::{EventId, Host, Partition};
use crate::engine::command::{Admitted, Confirmed, Front, Gathered, Woken};
use crate::handoff::Written;
use crate::store::audit;
use crate::store::line::{self, StoredEvent};

/// What a former owner left: attempts in flight, and hosts with parked heads.
pub(super) type Left = (Vec<StoredEvent>, Vec<Host>);

/// What a transaction found out; valid once it has committed. Each finding says what it belongs to.
#[derive(Default)]
pub(super) struct Found {
    pub(super) settled: HashSet<EventId>,
    /// By the arrivals' places in the batch.
    pub(super) admitted: HashMap<usize, Admitted>,
    pub(super) started: HashSet<EventId>,
    pub(super) taken_over: HashMap<Partition, Left>,
    pub(super) fronts: Vec<line::Front>,
    pub(super) woken: Vec<line::Woken>,
    pub(super) unparked: HashMap<Host, (Vec<StoredEvent>, bool)>,
    pub(super) gathered: Vec<Gathered>,
    pub(super) audited: Vec<audit::Confirmed>,
}

impl Found {
    /// The largest body that was read.
    pub(super) fn largest(&self) -> usize {
        let fronts = self.fronts.iter().flat_map(|front| &front.events);
        let woken = self.woken.iter().filter_map(|woken| match woken {
            line::Woken::Due { event, .. } => Some(event),
            line::Woken::Early { .. } => None,
        });
        let unparked = self.unparked.values().flat_map(|(events, _)| events);
        fronts.chain(woken).chain(unparked).map(|event| event.body.len()).max().unwrap_or(0)
    }
}

/// What the engine is told of a committed batch, in the order in which it was applied.
pub(super) fn report(batch: Batch, mut found: Found) -> Vec<Written> {
    let mut results = Vec::new();
    for held in batch.takeovers {
        let Some((in_flight, hosts)) = found.taken_over.remove(&held.partition()) else { continue };
        let in_flight = in_flight.into_iter().filter_map(|event| restore(&event)).collect();
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
    results.extend(found.fronts.into_iter().map(|front| Written::Front(restored(front))));
    results.extend(found.woken.into_iter().filter_map(woken).map(Written::Woken));
    for (host, ..) in batch.unparks {
        // Whoever asked for parked events is told if there are none.
        let (events, more) = found.unparked.remove(&host).unwrap_or_default();
        let events = events.into_iter().filter_map(|event| restore(&event)).collect();
        results.push(Written::Unparked { host, events, more });
    }
    results.extend(found.audited.into_iter().map(|confirmed| {
        let audit::Confirmed { in_flight, ready, orphans } = confirmed;
        let in_flight = in_flight.into_iter().filter_map(|event| restore(&event)).collect();
        Written::Audited(Confirmed { in_flight, ready, orphans })
    }));
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

/// Up to an event that can't be read back: it holds up its line.
fn restored(front: line::Front) -> Front {
    let line::Front { entity, events, more } = front;
    let (all, events) = (events.len(), events.into_iter().map_while(|event| restore(&event)).collect::<Vec<_>>());
    Front { entity, more: more || events.len() < all, events }
}

fn woken(woken: line::Woken) -> Option<Woken> {
    Some(match woken {
        line::Woken::Due { event, waited_ms, late_ms } => {
            Woken::Due { event: restore(&event)?, waited: millis(waited_ms), late: millis(late_ms) }
        }
        line::Woken::Early { token, partition, millis } => {
            Woken::Early { token, partition, delay: Duration::from_millis(millis.unsigned_abs()) }
        }
    })
}

/// What the database has measured.
fn millis(measured: i64) -> Duration {
    Duration::from_millis(u64::try_from(measured).unwrap_or(0))
}
