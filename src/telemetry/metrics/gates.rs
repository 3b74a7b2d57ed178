//! Gauges of gates and pauses.

use std::sync::{Mutex, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};

use super::{count, hosts};
use crate::domain::event::Host;

/// How gates stood when they were looked at last.
#[derive(Default)]
struct Picture {
    /// Hosts whose gate is shut, and for how many seconds.
    shut: Vec<(Host, f64)>,
    pauses: usize,
    /// Of hosts that are shut or paused: entities that wait, and the age of the oldest event in seconds.
    waiting: Vec<(Host, i64, Option<f64>)>,
}

static PICTURE: Mutex<Option<Picture>> = Mutex::new(None);

/// How gates stand: those that are shut, and for how many seconds; how many pauses there are; and what waits of this worker's
/// partitions: entities, and seconds since the oldest event was recorded.
pub fn gates(
    shut: impl Iterator<Item = (Host, f64)>,
    pauses: usize,
    waiting: impl Iterator<Item = (Host, i64, Option<f64>)>,
) {
    let picture = Picture { shut: shut.collect(), pauses, waiting: waiting.collect() };
    *PICTURE.lock().unwrap_or_else(PoisonError::into_inner) = Some(picture);
}

fn read<T>(of: impl Fn(&Picture) -> T) -> Option<T> {
    PICTURE.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(of)
}

fn labels(host: &Host) -> [KeyValue; 2] {
    let (address, port) = hosts::split(host);
    [KeyValue::new("server.address", address), KeyValue::new("server.port", i64::from(port))]
}

pub(super) fn watch(meter: &Meter) {
    count(meter, "onceward.gates.shut", "{host}", "Hosts whose gate is shut.", |observer| {
        if let Some(shut) = read(|picture| picture.shut.len()) {
            observer.observe(shut as u64, &[]);
        }
    });
    count(meter, "onceward.pauses", "{pause}", "What operators have paused.", |observer| {
        if let Some(pauses) = read(|picture| picture.pauses) {
            observer.observe(pauses as u64, &[]);
        }
    });
    let help = "For how long the gate of a host has been shut, of the 100 that have been for longest.";
    seconds(meter, "onceward.gate.shut.age", help, |observer| {
        let mut shut = read(|picture| picture.shut.clone()).unwrap_or_default();
        shut.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        for (host, age) in shut.iter().take(hosts::NAMED) {
            observer.observe(*age, &labels(host));
        }
    });
    let help = "Entities of this worker's partitions that wait behind a shut gate or a paused host.";
    count(meter, "onceward.gate.waiting", "{entity}", help, |observer| {
        for (host, entities, _) in read(|picture| picture.waiting.clone()).unwrap_or_default() {
            observer.observe(u64::try_from(entities).unwrap_or(0), &labels(&host));
        }
    });
    let help = "Age of the oldest event that waits behind a shut gate or a paused host.";
    seconds(meter, "onceward.gate.oldest.age", help, |observer| {
        for (host, _, oldest) in read(|picture| picture.waiting.clone()).unwrap_or_default() {
            if let Some(age) = oldest {
                observer.observe(age, &labels(&host));
            }
        }
    });
}

fn seconds(
    meter: &Meter,
    name: &'static str,
    help: &'static str,
    read: impl Fn(&dyn AsyncInstrument<f64>) + Send + Sync + 'static,
) {
    let _ = meter.f64_observable_gauge(name).with_unit("s").with_description(help).with_callback(read).build();
}
