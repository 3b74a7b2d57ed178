//! From deliveries to batches of arrivals for the writer.

use std::sync::Arc;
use std::time::Duration;

use lapin::message::Delivery;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::acks::{Batch, Letter, Open, Poisoned};
use super::deliveries::Deliveries;
use crate::broker::gatekeeper::ahead::{Refused, Watched};
use crate::broker::letter;
use crate::broker::wire;
use crate::clock;
use crate::domain::contract::{self, Terms};
use crate::domain::event::Event;
use crate::host_limit::Offer;
use crate::host_limit::shared::{HostLimit, Place};
use crate::store::admit::Arrival;
use crate::store::lease::Held;
use crate::store::writer::Command;
use crate::telemetry::trace;

/// Messages that one batch holds at most.
const BATCH: usize = 256;
/// Bytes that one batch holds at most, unless its first message alone has more: the writer puts batches together, and does not
/// take them apart.
const BATCH_BYTES: usize = 256 * 1024;
/// How long intake waits for room at a host before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Reads messages by the contract, and has them recorded.
pub struct Reader {
    /// The settings of the contract.
    pub terms: Terms,
    /// To the writer.
    pub commands: mpsc::Sender<Command>,
    /// Places at hosts.
    pub hosts: Arc<HostLimit>,
    /// Where the messages come from, for traces.
    pub origin: trace::Broker,
    /// What the broker has sent ahead on the partition's channel.
    pub ahead: Watched,
    /// Memory for bodies, in KiB.
    pub bodies: Arc<Semaphore>,
    /// On the partition that is consumed.
    pub held: Held,
    /// To the acknowledgements, in the order of the writer's commands.
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
    pub async fn run(self, mut deliveries: Deliveries) -> Result<(), String> {
        loop {
            let mut gathered = Gathered::default();
            let delivery = deliveries.next().await?;
            self.take(&mut gathered, delivery).await?;
            for _ in 1..BATCH {
                let Some(delivery) = deliveries.ready_now() else { break };
                if gathered.bytes + delivery.data.len() > BATCH_BYTES {
                    self.flush(&mut gathered).await?;
                }
                self.take(&mut gathered, delivery).await?;
            }
            self.flush(&mut gathered).await?;
            // Room that is left is for the next one that waits.
            self.hosts.room.notify_one();
        }
    }

    async fn take(&self, gathered: &mut Gathered, delivery: Delivery) -> Result<(), String> {
        let Delivery { delivery_tag, routing_key, properties, data, acker, .. } = delivery;
        let (share, refused) = self.ahead.take(delivery_tag);
        let size = data.len();
        let message = wire::message(routing_key.as_str(), &properties, data);
        let body = message.body.clone();
        let span = trace::process(&self.origin, self.held.partition(), &message);
        let (letter, properties, read) = match refused {
            None => {
                let read = contract::read(message, self.held.partition(), &self.terms);
                (Letter::Ours, properties, read)
            }
            Some(Refused { poison, apart: None }) => (Letter::TheQueues, properties, Err(poison)),
            Some(Refused { poison, apart: Some(original) }) => (Letter::Ours, letter::unread(&original), Err(poison)),
        };
        let open = Open { span, tag: delivery_tag, acker, share };
        match read {
            Ok(mut event) => {
                event.trace = trace::traceparent(&open.span);
                event.taken_in = clock::unix_millis();
                let place = self.find_place(gathered, &event).await?;
                let (digest, event) = (event.digest(), Arc::new(event));
                let arrival = Arrival { number: 0, event, digest, held: self.held.clone(), place, unstorable: None };
                gathered.arrivals.push(arrival);
                gathered.open.push(open);
            }
            Err(poison) => {
                let routing_key = routing_key.to_string();
                gathered.poisoned.push(Poisoned { routing_key, properties, body, poison, letter, open });
            }
        }
        gathered.bytes += size;
        Ok(())
    }

    /// A place in memory for an event, or the decision that it waits in the store. Waits while the host's queue is full
    /// and moves; what was gathered before is recorded meanwhile.
    async fn find_place(&self, gathered: &mut Gathered, event: &Event) -> Result<Option<Place>, String> {
        loop {
            let offer = self.hosts.lock().offer(&event.host, clock::now());
            match offer {
                Offer::Ready => break,
                Offer::Park => return Ok(None),
                Offer::Wait => {
                    self.flush(gathered).await?;
                    let _ = tokio::time::timeout(LOOK_AGAIN, self.hosts.room.notified()).await;
                }
            }
        }
        let kib = u32::try_from(event.body.len().div_ceil(1_024)).unwrap_or(u32::MAX);
        let Ok(budget) = self.bodies.clone().try_acquire_many_owned(kib) else {
            self.hosts.lock().release_place(&event.host);
            return Ok(None);
        };
        Ok(Some(self.hosts.place(event.host.clone(), budget)))
    }

    async fn flush(&self, gathered: &mut Gathered) -> Result<(), String> {
        let Gathered { arrivals, open, poisoned, .. } = std::mem::take(gathered);
        if arrivals.is_empty() && poisoned.is_empty() {
            return Ok(());
        }
        let stopped = || "the worker stops".to_owned();
        let events = arrivals.iter().map(|arrival| arrival.event.clone());
        let events = events.zip(open).collect();
        let (reply, admitted) = oneshot::channel();
        if arrivals.is_empty() {
            let _ = reply.send(Vec::new());
        } else {
            self.commands.send(Command::Admit { arrivals, reply }).await.map_err(|_| stopped())?;
        }
        let batch = Batch { events, admitted, poisoned };
        self.batches.send(batch).await.map_err(|_| stopped())
    }
}
