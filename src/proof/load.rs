//! The load of a run, all of it made from a seed: which events, in which order, how large, and how the receiver behaves
//! towards each attempt. The same seed is the same load.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::chance::Chance;

/// What makes a load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LoadPlan {
    /// Everything random is made from it.
    pub seed: u64,
    /// Events, without duplicates and poison.
    pub events: u32,
    /// Entities that they belong to.
    pub entities: u32,
    /// Exponent of the Zipf distribution over the entities; 0 is uniform.
    pub zipf: f64,
    /// Hosts that they go to.
    pub hosts: u16,
    /// Bytes of each body.
    pub payload_bytes: u32,
    /// Percent of the events that are published a second time, under the same key.
    pub duplicates_percent: f64,
    /// Percent of the entities that number their events; these are published out of order.
    pub numbered_percent: f64,
    /// Percent of the events whose first attempts fail.
    pub failures_percent: f64,
    /// Percent of the events of which every attempt fails.
    pub doomed_percent: f64,
    /// Messages that break the contract.
    pub poison: u32,
    /// Messages that no polite client sends.
    #[serde(default)]
    pub hostile: u32,
}

/// How the receiver behaves towards an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// 200.
    Ok,
    /// 200, and a body that takes its time.
    SlowBody,
    /// 500.
    ServerError,
    /// 429 with `Retry-After: 1`.
    TooManyRequests,
    /// The connection is closed without an answer.
    Reset,
    /// No answer at all.
    Timeout,
}

impl Answer {
    /// Whether it is a 2xx.
    #[must_use]
    pub fn succeeds(self) -> bool {
        matches!(self, Self::Ok | Self::SlowBody)
    }

    /// The least time that the policy has to wait for after it, besides its back-off.
    #[must_use]
    pub fn retry_after(self) -> Duration {
        if self == Self::TooManyRequests { Duration::from_secs(1) } else { Duration::ZERO }
    }
}

/// An event of the load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedEvent {
    /// Its idempotency key.
    pub key: String,
    /// The number of its entity.
    pub entity: u32,
    /// Its place among its entity's events, from 1.
    pub place: u32,
    /// Whether it carries its place as its sequence.
    pub numbered: bool,
    /// The number of its host.
    pub host: u16,
    /// Attempts that fail before one succeeds; `u16::MAX` for a doomed event.
    pub failures: u16,
}

/// A message on its way to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// The event of this index.
    Event(usize),
    /// The same once more.
    Duplicate(usize),
    /// One that breaks the contract.
    Poison(u32),
    /// One that no polite client sends.
    Hostile(u32),
}

/// A load.
#[derive(Clone, Debug)]
pub struct Load {
    /// What it is made from.
    pub plan: LoadPlan,
    /// Tells this run's keys and entities from any other's.
    pub run: String,
    /// All events, by index.
    pub events: Vec<PlannedEvent>,
    /// All messages, in the order of their publication.
    pub messages: Vec<Message>,
}

/// The most attempts that fail before one succeeds.
const MOST_FAILURES: u64 = 3;
/// How far apart a duplicate comes behind its original, or a number behind its successor, at most.
const SHUFFLED_WITHIN: usize = 40;

impl Load {
    /// Makes the load of a plan.
    #[must_use]
    pub fn new(plan: LoadPlan, run: &str) -> Self {
        let mut chance = Chance::new(plan.seed);
        let weights = weights(&plan);
        let mut places = vec![0; plan.entities as usize];
        let mut events = Vec::with_capacity(plan.events as usize);
        for index in 0..plan.events {
            let entity = choose(&weights, chance.unit());
            places[entity as usize] += 1;
            let failures = match chance.unit() * 100.0 {
                doomed if doomed < plan.doomed_percent => u16::MAX,
                failing if failing < plan.doomed_percent + plan.failures_percent => {
                    u16::try_from(1 + chance.below(MOST_FAILURES)).unwrap_or(1)
                }
                _ => 0,
            };
            events.push(PlannedEvent {
                key: format!("{run}-{index}"),
                entity,
                place: places[entity as usize],
                numbered: is_numbered(&plan, entity),
                host: u16::try_from(chance.below(plan.hosts.into())).unwrap_or(0),
                failures,
            });
        }
        let messages = messages(&plan, &events, &mut chance);
        Self { plan, run: run.into(), events, messages }
    }

    /// The routing key of an entity.
    #[must_use]
    pub fn entity_name(&self, entity: u32) -> String {
        format!("verify.{}.{entity}", self.run)
    }

    /// How the receiver behaves towards attempt number `attempt` (from 1) for an event.
    #[must_use]
    pub fn answer(&self, index: usize, attempt: u32) -> Answer {
        let event = &self.events[index];
        let mut chance = Chance::new(self.plan.seed ^ (index as u64) << 20 ^ u64::from(attempt));
        if u32::from(event.failures) < attempt && event.failures != u16::MAX {
            return if chance.below(200) == 0 { Answer::SlowBody } else { Answer::Ok };
        }
        match chance.below(20) {
            0 => Answer::Timeout,
            1..=4 => Answer::Reset,
            5..=8 => Answer::TooManyRequests,
            _ => Answer::ServerError,
        }
    }

    /// The body of an event: text that nobody else has.
    #[must_use]
    pub fn body(&self, index: usize) -> Vec<u8> {
        let mut body = format!("{{\"key\":\"{}\",\"pad\":\"", self.events[index].key).into_bytes();
        let mut chance = Chance::new(self.plan.seed ^ index as u64);
        let length = (self.plan.payload_bytes as usize).max(body.len() + 2);
        while body.len() < length - 2 {
            body.push(b'a' + u8::try_from(chance.below(26)).unwrap_or(0));
        }
        body.extend_from_slice(b"\"}");
        body
    }
}

/// SHA-256 of a body.
#[must_use]
pub fn digest(body: &[u8]) -> [u8; 32] {
    Sha256::digest(body).into()
}

fn is_numbered(plan: &LoadPlan, entity: u32) -> bool {
    Chance::new(plan.seed ^ 0x9e37 ^ u64::from(entity) << 32).unit() * 100.0 < plan.numbered_percent
}

/// The cumulative weights of the entities.
fn weights(plan: &LoadPlan) -> Vec<f64> {
    let mut sum = 0.0;
    let weight = |rank: u32| f64::from(rank + 1).powf(-plan.zipf);
    let mut weights: Vec<f64> = (0..plan.entities)
        .map(|rank| {
            sum += weight(rank);
            sum
        })
        .collect();
    for weight in &mut weights {
        *weight /= sum;
    }
    weights
}

fn choose(weights: &[f64], unit: f64) -> u32 {
    let index = weights.partition_point(|weight| *weight <= unit).min(weights.len().saturating_sub(1));
    u32::try_from(index).unwrap_or(0)
}

/// Events in their order, but numbered ones and duplicates put off a little; poison and hostile messages in between.
fn messages(plan: &LoadPlan, events: &[PlannedEvent], chance: &mut Chance) -> Vec<Message> {
    let mut placed: Vec<(usize, usize, Message)> = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let put_off = if event.numbered { chance.below(SHUFFLED_WITHIN as u64) } else { 0 };
        let at = index + usize::try_from(put_off).unwrap_or(0);
        placed.push((at, placed.len(), Message::Event(index)));
        if chance.unit() * 100.0 < plan.duplicates_percent {
            let behind = 1 + usize::try_from(chance.below(SHUFFLED_WITHIN as u64)).unwrap_or(0);
            placed.push((at + behind, placed.len(), Message::Duplicate(index)));
        }
    }
    for message in (0..plan.poison).map(Message::Poison).chain((0..plan.hostile).map(Message::Hostile)) {
        let at = chance.below(events.len().max(1) as u64);
        placed.push((usize::try_from(at).unwrap_or(0), placed.len(), message));
    }
    placed.sort_unstable_by_key(|(at, tie, _)| (*at, *tie));
    placed.into_iter().map(|(.., message)| message).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> LoadPlan {
        LoadPlan {
            seed: 5,
            events: 2_000,
            entities: 50,
            zipf: 1.0,
            hosts: 3,
            payload_bytes: 200,
            duplicates_percent: 5.0,
            numbered_percent: 50.0,
            failures_percent: 10.0,
            doomed_percent: 1.0,
            poison: 7,
            hostile: 5,
        }
    }

    #[test]
    fn the_same_seed_is_the_same_load() {
        let (one, two) = (Load::new(plan(), "run"), Load::new(plan(), "run"));
        assert_eq!((one.events.clone(), one.messages.clone()), (two.events, two.messages));
        let other = Load::new(LoadPlan { seed: 6, ..plan() }, "run");
        assert_ne!(one.events, other.events);
    }

    #[test]
    fn a_load_has_what_its_plan_says() {
        let load = Load::new(plan(), "run");
        let count = |wanted: fn(&Message) -> bool| load.messages.iter().filter(|message| wanted(message)).count();
        assert_eq!(count(|message| matches!(message, Message::Event(_))), 2_000);
        assert_eq!(count(|message| matches!(message, Message::Poison(_))), 7);
        assert_eq!(count(|message| matches!(message, Message::Hostile(_))), 5);
        let near = |share: usize, percent: f64| {
            let expected = 20.0 * percent;
            (f64::from(u32::try_from(share).unwrap()) - expected).abs() < expected / 2.0 + 5.0
        };
        assert!(near(count(|message| matches!(message, Message::Duplicate(_))), 5.0));
        assert!(near(load.events.iter().filter(|event| event.failures == u16::MAX).count(), 1.0));
        assert!(near(load.events.iter().filter(|event| (1..100).contains(&event.failures)).count(), 10.0));
        let of_first = load.events.iter().filter(|event| event.entity == 0).count();
        assert!(of_first > 300, "the first entity of a Zipf distribution has many: {of_first}");
        assert!(load.events.iter().any(|event| event.numbered) && load.events.iter().any(|event| !event.numbered));
    }

    #[test]
    fn events_without_numbers_are_published_in_order_and_duplicates_behind_them() {
        let load = Load::new(plan(), "run");
        let mut last = [0; 50];
        let mut seen = std::collections::HashSet::new();
        for message in &load.messages {
            match *message {
                Message::Event(index) => {
                    let event = &load.events[index];
                    assert!(event.numbered || event.place == last[event.entity as usize] + 1);
                    last[event.entity as usize] = event.place;
                    seen.insert(index);
                }
                Message::Duplicate(index) => assert!(seen.contains(&index)),
                Message::Poison(_) | Message::Hostile(_) => {}
            }
        }
    }

    #[test]
    fn a_failing_event_fails_as_often_as_planned_and_a_doomed_one_for_ever() {
        let load = Load::new(plan(), "run");
        for (index, event) in load.events.iter().enumerate() {
            for attempt in 1..=6 {
                let fails = event.failures == u16::MAX || attempt <= u32::from(event.failures);
                assert_eq!(load.answer(index, attempt).succeeds(), !fails);
            }
        }
    }

    #[test]
    fn bodies_have_their_size_and_are_nobody_elses() {
        let load = Load::new(plan(), "run");
        assert_eq!(load.body(3).len(), 200);
        assert_ne!(digest(&load.body(3)), digest(&load.body(4)));
        assert_eq!(digest(&load.body(3)), digest(&load.body(3)));
        let small = Load::new(LoadPlan { payload_bytes: 1, ..plan() }, "run");
        assert!(serde_json::from_slice::<serde_json::Value>(&small.body(0)).is_ok());
    }
}
