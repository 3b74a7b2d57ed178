//! One thing grows at a time. What an event costs should not grow with it.

use super::super::drain::Spec;
use super::super::results::{CPU, Results};
use super::super::{Bench, Fallible};
use super::measure;

/// Events of the case that the others are held against.
const EVENTS: u32 = 100_000;
/// Events of one entity alone, which go one at a time.
const EVENTS_OF_ONE: u32 = 5_000;
/// The most bytes of payload in a backlog.
const BYTES: u64 = 400 << 20;
/// CPU of an event that differs more than by this part is marked.
const ALIKE: f64 = 0.15;
const BASE: &str = "base";

pub async fn run(bench: &Bench, results: &mut Results) -> Fallible<()> {
    for run in 0..bench.settings.runs {
        for (case, spec) in cases(bench) {
            measure(bench, results, ("growth", &case, run), &spec).await?;
        }
    }
    for name in CPU {
        results.mark_those_off("growth", BASE, name, ALIKE);
    }
    Ok(())
}

fn cases(bench: &Bench) -> Vec<(String, Spec)> {
    let scaled = |events| bench.settings.scaled(events);
    let base = Spec { events: scaled(EVENTS), ..Spec::default() };
    let mut cases = vec![(BASE.to_owned(), base.clone())];
    for events in [10_000, 1_000_000] {
        cases.push((format!("backlog {events}"), Spec { events: scaled(events), ..base.clone() }));
    }
    for entities in [1, 100, 10_000, 100_000] {
        let events = if entities == 1 { scaled(EVENTS_OF_ONE) } else { base.events };
        cases.push((format!("entities {entities}"), Spec { events, entities, ..base.clone() }));
    }
    for hosts in [10, 1_000] {
        cases.push((format!("hosts {hosts}"), Spec { hosts, ..base.clone() }));
    }
    for payload in [100, 16 << 10, 256 << 10] {
        let most = u32::try_from(BYTES / payload as u64).unwrap_or(u32::MAX);
        let events = base.events.min(most);
        cases.push((format!("payload {payload} B"), Spec { events, payload, ..base.clone() }));
    }
    for workers in [2, 4] {
        cases.push((format!("workers {workers}"), Spec { workers, ..base.clone() }));
    }
    cases
}
