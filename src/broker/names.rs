//! The names of exchanges and queues, and what else decides how they are declared.

use std::time::Duration;

use super::delay;
use crate::config::ExchangeType;
use crate::domain::event::Partition;

/// The version of what is declared, recorded in the database at the first start. The broker refuses a queue's
/// declaration with other arguments, so that a change to them needs a next version and a way to get there.
///
/// Version 2 says of each queue how often a message may come back to it. Version 3 has an exchange of its own for the
/// partitions, behind the one that producers publish to. What an earlier program has declared stays as it is.
pub const VERSION: i32 = 3;

/// The names of one Onceward's exchanges and queues, all derived from the events exchange.
#[derive(Clone, Debug)]
pub struct Names {
    pub(super) events: String,
    pub(super) version: i32,
    pub(super) exchange_type: ExchangeType,
    /// What the exchange hashes instead of the routing key.
    pub(super) hash_header: Option<String>,
}

impl Names {
    /// For the exchange that producers publish to.
    #[must_use]
    pub fn new(events: &str) -> Self {
        Self { events: events.into(), version: VERSION, exchange_type: ExchangeType::default(), hash_header: None }
    }

    /// As they were declared first, by a program that knew this version.
    #[must_use]
    pub fn declared_as(self, version: i32) -> Self {
        Self { version, ..self }
    }

    /// With another type of that exchange.
    #[must_use]
    pub fn of_type(self, exchange_type: ExchangeType) -> Self {
        Self { exchange_type, ..self }
    }

    /// With an exchange that hashes this header instead of the routing key.
    #[must_use]
    pub fn hashing(self, header: Option<&str>) -> Self {
        Self { hash_header: header.map(str::to_owned), ..self }
    }

    /// The exchange that producers publish to.
    #[must_use]
    pub fn events(&self) -> &str {
        &self.events
    }

    /// The exchange that routes the events to the partitions' queues.
    #[must_use]
    pub fn partition_exchange(&self) -> String {
        format!("{}.partition", self.events)
    }

    /// What else that exchange is given as its alternate one, of which the broker compares the name. There is no such exchange,
    /// and nothing for it, as all queues are bound.
    #[must_use]
    pub(super) fn mark(&self, partitions: u16) -> String {
        let by = self.hash_header.as_ref().map_or("routing-key".into(), |header| format!("header:{header}"));
        format!("{}.partition.{partitions}.{by}", self.events)
    }

    /// The queue of a partition.
    #[must_use]
    pub fn partition(&self, partition: Partition) -> String {
        format!("{}.partition.{partition}", self.events)
    }

    /// The queue of a partition's wake-ups.
    #[must_use]
    pub fn due(&self, partition: Partition) -> String {
        format!("{}.due.{partition}", self.events)
    }

    /// The exchange at the foot of the delay ladder.
    #[must_use]
    pub fn due_exchange(&self) -> String {
        format!("{}.due", self.events)
    }

    /// The exchange and the queue of a level of the delay ladder.
    #[must_use]
    pub fn delay(&self, level: u32) -> String {
        format!("{}.delay.{level}", self.events)
    }

    /// Where the token of a delay enters the ladder.
    #[must_use]
    pub fn delay_entry(&self, delay: Duration) -> String {
        self.delay(delay::entry(delay))
    }

    /// The dead-letter exchange and its queue.
    #[must_use]
    pub fn dead_letter(&self) -> String {
        format!("{}.dead-letter", self.events)
    }
}
