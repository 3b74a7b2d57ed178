//! From deliveries to batches of arrivals for the writer.

use std::sync::Arc;

use lapin::message::Delivery;
use tokio::sync::mpsc;

use super::Receivers;
use super::acks::{Batch, Letter, Open, Poisoned};
use super::deliveries::Deliveries;
use crate::broker::gatekeeper::ahead::{Refused, Watched};
use crate::broker::letter;
use crate::broker::wire;
use crate::clock;
use crate::domain::contract::{self, Terms};
use crate::domain::event::{Event, Target};
use crate::domain::poison::Poison;
use crate::engine::command::Place;
use crate::handoff::{Arrival, Arrived};
use crate::lease::Held;
use crate::telemetry::trace;

/// Messages that one batch holds at most.
const BATCH: usize = 256;
/// Bytes that one batch holds at most, unless its first message alone has more: the writer puts batches together, and does not
/// take them apart.
const BATCH_BYTES: usize = 256 * 1024;

/// Reads messages by the contract, and has them recorded.
pub struct Reader {
    /// The settings of the contract.
    pub terms: Terms,
    /// What is known of receivers.
    pub receivers: Receivers,
    /// To the engine.
    pub arrived: mpsc::Sender<Arrived>,
    /// Where the messages come from, for traces.
    pub origin: trace::Broker,
    /// What the broker has sent ahead on the partition's channel.
    pub ahead: Watched,
    /// On the partition that is consumed.
    pub held: Held,
    /// To the acknowledgements, in the order in which the engine gets them.
    pub batches: mpsc::Sender<Batch>,
}

#[derive(Default)]
struct Gathered {
    arrivals: Vec<Arrival>,
    /// Of the arrivals.
    open: Vec<Open>,
    poisoned: Vec<Poisoned>,
    bytes: usize,
}

impl Reader {
    /// Runs until the connection breaks: never ends well.
    ///
    /// # Errors
    /// Why it broke.
    pub async fn run(mut self, mut deliveries: Deliveries) -> Result<(), String> {
        loop {
            let mut gathered = Gathered::default();
            let delivery = deliveries.next().await?;
            if self.terms.destinations.is_none() || self.receivers.destinations.has_changed().unwrap_or(false) {
                self.terms.destinations = Some(self.receivers.destinations.borrow_and_update().clone());
            }
            self.take(&mut gathered, delivery);
            for _ in 1..BATCH {
                let Some(delivery) = deliveries.ready_now() else { break };
                if gathered.bytes + delivery.data.len() > BATCH_BYTES {
                    self.flush(&mut gathered).await?;
                }
                self.take(&mut gathered, delivery);
            }
            self.flush(&mut gathered).await?;
        }
    }

    fn take(&self, gathered: &mut Gathered, delivery: Delivery) {
        let Delivery { delivery_tag, routing_key, properties, data, acker, .. } = delivery;
        let (share, refused) = self.ahead.take(delivery_tag);
        let size = data.len();
        let properties = letter::keep_routing_key(properties, routing_key.as_str(), &self.terms.entity_from);
        let message = wire::message(routing_key.as_str(), &properties, data);
        let body = message.body.clone();
        let span = trace::process(&self.origin, self.held.partition(), &message);
        let (letter, properties, read) = match refused {
            None => {
                let read = contract::read(message, self.held.partition(), &self.terms);
                let read = read.and_then(|event| self.judge(&event).map(|()| event));
                (Letter::Ours, properties, read)
            }
            Some(Refused { poison, apart: None }) => (Letter::TheQueues, properties, Err(poison)),
            Some(Refused { poison, apart: Some(original) }) => (Letter::Ours, letter::unread(&original), Err(poison)),
        };
        let open = Open { span, tag: delivery_tag, acker, share };
        match read {
            Ok(mut event) => {
                event.trace = trace::traceparent(&open.span);
                event.ingested_ms = clock::unix_millis();
                let (digest, event) = (event.digest(), Arc::new(event));
                let (held, place) = (self.held.clone(), Place::Store);
                let arrival = Arrival { event, digest, held, place, unstorable: None };
                gathered.arrivals.push(arrival);
                gathered.open.push(open);
            }
            Err(poison) => {
                let routing_key = routing_key.to_string();
                gathered.poisoned.push(Poisoned { routing_key, properties, body, poison, letter, open });
            }
        }
        gathered.bytes += size;
    }

    /// A destination that can't be reached is known now, where it shows in its URL.
    fn judge(&self, event: &Event) -> Result<(), Poison> {
        let Target::Url(url) = &event.destination else { return Ok(()) };
        let transport = self.receivers.destinations.borrow().of(&event.host).transport.clone();
        let judged = if transport.allow.is_empty() && transport.deny.is_empty() {
            self.receivers.guard.judge_url(url)
        } else {
            self.receivers.guard.with(&transport.allow, &transport.deny).judge_url(url)
        };
        judged.map_err(Poison::Forbidden)
    }

    async fn flush(&self, gathered: &mut Gathered) -> Result<(), String> {
        let Gathered { arrivals, open, poisoned, .. } = std::mem::take(gathered);
        if arrivals.is_empty() && poisoned.is_empty() {
            return Ok(());
        }
        let stopped = || "the worker stops".to_owned();
        let events = arrivals.iter().map(|arrival| arrival.event.clone());
        let events = events.zip(open).collect();
        // Answers come a part at a time, and each has one arrival at least.
        let (answers, admitted) = mpsc::channel(arrivals.len().max(1));
        if !arrivals.is_empty() {
            self.arrived.send(Arrived { arrivals, answers }).await.map_err(|_| stopped())?;
        }
        let batch = Batch { events, admitted, poisoned };
        self.batches.send(batch).await.map_err(|_| stopped())
    }
}
