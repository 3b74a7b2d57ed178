//! Gauges: how things stand at the moment at which somebody asks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Meter};

use super::{count, hosts};
use crate::domain::event::Host;

/// One host's load.
#[derive(Clone, Debug)]
pub struct HostLoad {
    /// The host.
    pub host: Host,
    /// Attempts in flight.
    pub in_flight: usize,
    /// Events in memory that wait for their turn.
    pub waiting: usize,
}

/// What a worker owns.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ownership {
    /// Partitions that are this worker's.
    pub owned: usize,
    /// Partitions that there are.
    pub partitions: usize,
    /// Since the leases were last renewed; none before the first time.
    pub lease_age: Option<Duration>,
}

/// Which servers are reached.
#[derive(Clone, Copy, Debug, Default)]
pub struct Connections {
    /// RabbitMQ, by the consuming connection.
    pub broker: bool,
    /// Postgres, by the keeper of leases.
    pub database: bool,
}

/// Open events of a worker's partitions, as counted a short while ago.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Backlog {
    /// Events by the name of their state.
    pub by_state: Vec<(&'static str, u64)>,
    /// Entities that wait: for a retry, for an operator (`on_hold`), for a missing number (`gap`).
    pub blocked: Vec<(&'static str, u64)>,
    /// The age of the oldest.
    pub oldest: Option<Duration>,
}

type Read<T> = Box<dyn Fn() -> T + Send + Sync>;

/// Watches everything that has a present state. Each function is called whenever metrics are read, and must not block.
pub fn watch(
    hosts: Read<Vec<HostLoad>>,
    ownership: impl Fn() -> Ownership + Clone + Send + Sync + 'static,
    connections: impl Fn() -> Connections + Clone + Send + Sync + 'static,
    still: impl Fn() -> [(&'static str, Option<Duration>); 3] + Send + Sync + 'static,
    backlog: impl Fn() -> Backlog + Clone + Send + Sync + 'static,
) {
    let meter = super::meter();
    watch_hosts(&meter, hosts);
    watch_ownership(&meter, ownership);
    watch_connections(&meter, connections);
    watch_standstills(&meter, still);
    watch_backlog(&meter, backlog);
    watch_destinations(&meter);
    super::gates::watch(&meter);
}

fn seconds(
    meter: &Meter,
    name: &'static str,
    help: &'static str,
    read: impl Fn() -> Option<Duration> + Send + Sync + 'static,
) {
    let observe = move |observer: &dyn AsyncInstrument<f64>| {
        if let Some(time) = read() {
            observer.observe(time.as_secs_f64(), &[]);
        }
    };
    let _ = meter.f64_observable_gauge(name).with_unit("s").with_description(help).with_callback(observe).build();
}

fn watch_hosts(meter: &Meter, read: Read<Vec<HostLoad>>) {
    let read = std::sync::Arc::new(read);
    let each = |load: fn(&HostLoad) -> usize| {
        let read = read.clone();
        move |observer: &dyn AsyncInstrument<u64>| {
            let mut loads = read();
            // The busiest ones are named.
            loads.sort_unstable_by_key(|host| std::cmp::Reverse(load(host)));
            for host in loads.iter().take(hosts::NAMED) {
                let (address, port) = hosts::split(&host.host);
                let attributes =
                    [KeyValue::new("server.address", address), KeyValue::new("server.port", i64::from(port))];
                observer.observe(load(host) as u64, &attributes);
            }
        }
    };
    let (in_flight, waiting) = (each(|host| host.in_flight), each(|host| host.waiting));
    count(meter, "onceward.host.in_flight", "{request}", "Attempts in flight, of the 100 busiest hosts.", in_flight);
    count(meter, "onceward.host.waiting", "{event}", "Events in memory that wait for their host, likewise.", waiting);
}

fn watch_ownership(meter: &Meter, read: impl Fn() -> Ownership + Clone + Send + Sync + 'static) {
    let (owned, partitions, age) = (read.clone(), read.clone(), read);
    count(meter, "onceward.partition.owned", "{partition}", "Partitions that this worker owns.", move |observer| {
        observer.observe(owned().owned as u64, &[]);
    });
    count(meter, "onceward.partition.count", "{partition}", "Partitions that there are.", move |observer| {
        observer.observe(partitions().partitions as u64, &[]);
    });
    seconds(meter, "onceward.lease.age", "Since this worker's leases were renewed.", move || age().lease_age);
}

fn watch_connections(meter: &Meter, read: impl Fn() -> Connections + Clone + Send + Sync + 'static) {
    let (broker, database) = (read.clone(), read);
    count(meter, "onceward.broker.connected", "{connection}", "1 if the broker is reached.", move |observer| {
        observer.observe(broker().broker.into(), &[]);
    });
    count(meter, "onceward.database.connected", "{connection}", "1 if the database is reached.", move |observer| {
        observer.observe(database().database.into(), &[]);
    });
}

/// Parts of the worker that can stand still: 0 for one that goes on.
fn watch_standstills(meter: &Meter, read: impl Fn() -> [(&'static str, Option<Duration>); 3] + Send + Sync + 'static) {
    let observe = move |observer: &dyn AsyncInstrument<f64>| {
        for (part, age) in read() {
            observer.observe(age.unwrap_or_default().as_secs_f64(), &[KeyValue::new("onceward.part", part)]);
        }
    };
    let help = "How long a part of the worker has stood still; readyz says why.";
    let _ = meter
        .f64_observable_gauge("onceward.standstill.age")
        .with_unit("s")
        .with_description(help)
        .with_callback(observe)
        .build();
}

/// Whether the destinations' file is refused.
static DESTINATIONS_REFUSED: AtomicBool = AtomicBool::new(false);

/// The destinations' file is refused, or not any more.
pub fn destinations_refused(refused: bool) {
    DESTINATIONS_REFUSED.store(refused, Ordering::Relaxed);
}

fn watch_destinations(meter: &Meter) {
    let help = "1 if the destinations' file is refused, and what held before goes on.";
    count(meter, "onceward.destinations.refused", "{file}", help, |observer| {
        observer.observe(DESTINATIONS_REFUSED.load(Ordering::Relaxed).into(), &[]);
    });
}

fn watch_backlog(meter: &Meter, read: impl Fn() -> Backlog + Clone + Send + Sync + 'static) {
    let (states, blocked, oldest) = (read.clone(), read.clone(), read);
    let help = "Open events of this worker's partitions, by state; counted every 15 s.";
    count(meter, "onceward.event.open", "{event}", help, move |observer| {
        for (state, events) in states().by_state {
            observer.observe(events, &[KeyValue::new("onceward.state", state)]);
        }
    });
    let help = "Entities of this worker's partitions that wait, by what for; counted every 15 s.";
    count(meter, "onceward.entity.blocked", "{entity}", help, move |observer| {
        for (reason, entities) in blocked().blocked {
            observer.observe(entities, &[KeyValue::new("onceward.reason", reason)]);
        }
    });
    let help = "Age of the oldest open event of this worker's partitions; looked up every 15 s.";
    seconds(meter, "onceward.event.oldest.age", help, move || oldest().oldest);
}
