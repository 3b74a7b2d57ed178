//! What the engine wants done: carried out, each kind in its way.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::{Dispatch, Engine, Numbers, Waiting};
use crate::clock;
use crate::domain::event::Host;
use crate::engine::command::{Admitted, Ticket};
use crate::engine::input::{Adrift, Effects, Input, Note, Wake};
use crate::handoff::{Arrived, DeadLettered, Notice};
use crate::lease::{Held, Lease};
use crate::telemetry::metrics::HostLoad;
use crate::telemetry::{metrics, trace};

impl Dispatch {
    pub(super) async fn carry_out(&mut self, effects: Effects<Held>) {
        let Effects { commands, attempts, wakes, dead_letters, admitted, operated, refused, gates, notes, look_again } =
            effects;
        self.commands.extend(commands);
        self.look_again = look_again;
        self.send_commands();
        for attempt in attempts {
            if let Some(deliver) = &self.to_deliver {
                let _ = deliver.send(attempt).await;
            }
        }
        announce(wakes, dead_letters, &self.wakes, &self.dead_letters);
        self.unsaid.extend(gates);
        self.say_gates();
        self.tickets.answer(admitted, operated, refused);
        notes.iter().for_each(tell);
    }
}

/// Full or gone, the channels lose nothing: the sweeps find it.
pub(super) fn announce(
    wakes: Vec<Wake>,
    dead_letters: Vec<DeadLettered>,
    to_wake: &mpsc::Sender<Wake>,
    to_dead_letter: &mpsc::Sender<DeadLettered>,
) {
    for wake in wakes {
        let _ = to_wake.try_send(wake);
    }
    for letter in dead_letters {
        let _ = to_dead_letter.try_send(letter);
    }
}

fn tell(note: &Note) {
    match note {
        Note::Delivered { ingested_ms } => {
            metrics::delivered(std::time::Duration::from_millis(clock::unix_millis().saturating_sub(*ingested_ms)));
        }
        Note::Retried => metrics::retried(),
        Note::Waited { event, attempts, waited, late } => {
            metrics::retry_late(*late);
            trace::waited(event, *attempts, *waited, clock::time_of_day());
        }
        Note::GivenUp { host, outcome } => metrics::attempted(host, (outcome, false), None),
        Note::Rescued { id, entity, adrift } => {
            let entity = entity.as_str();
            match adrift {
                Adrift::InFlight(attempt) => {
                    metrics::rescued("in_flight");
                    tracing::warn!(event = %id, entity, attempt, "an attempt was recorded, and nobody had it in hand: its outcome is unknown, and it is made again");
                }
                Adrift::Ready => {
                    metrics::rescued("ready");
                    tracing::warn!(event = %id, entity, "an event was ready to be sent, and nobody had it in hand: it is taken up");
                }
                Adrift::Orphan => {
                    metrics::rescued("orphan");
                    tracing::error!(event = %id, entity, "an open event is gone from the database, which only a hand or a lost commit can bring about: its entity goes on without it");
                }
            }
        }
    }
}

/// Who waits for answers. Bounded by the batches that intake has under way, and by the decisions that the broker sends ahead.
#[derive(Default)]
pub(super) struct Tickets {
    numbers: Numbers,
    /// Of batches: how many arrivals are without an answer, and who waits for it.
    batches: Waiting<(usize, mpsc::Sender<Vec<Admitted>>)>,
    decisions: Waiting<oneshot::Sender<()>>,
}

impl Tickets {
    pub(super) fn arrived(&mut self, Arrived { arrivals, answers }: Arrived) -> Input<Arc<Lease>> {
        let ticket = self.numbers.next();
        self.batches.insert(ticket, (arrivals.len(), answers));
        Input::Arrived { ticket, arrivals }
    }

    pub(super) fn noticed(&mut self, notice: Notice) -> Input<Arc<Lease>> {
        match notice {
            Notice::Due(partition, token) => Input::Due(partition, token),
            Notice::Overdue(partition, entity, token) => Input::Overdue(partition, entity, token),
            Notice::Parked(host) => Input::Parked(host),
            Notice::Strays => Input::Strays,
            Notice::Suspects(suspects) => Input::Suspects(suspects),
            Notice::Operate(partition, decided, done) => {
                let ticket = self.numbers.next();
                self.decisions.insert(ticket, done);
                Input::Operate(ticket, partition, decided)
            }
        }
    }

    /// Nobody listens any more if the broker's connection is gone: messages come again, as duplicates, and decisions that were
    /// carried out are void.
    pub(super) fn answer(
        &mut self,
        admitted: Vec<(Ticket, Vec<Admitted>)>,
        operated: Vec<Ticket>,
        refused: Vec<Ticket>,
    ) {
        for (ticket, outcomes) in admitted {
            let Some((waiting, answers)) = self.batches.get_mut(&ticket) else { continue };
            *waiting = waiting.saturating_sub(outcomes.len());
            let is_last = *waiting == 0;
            let _ = answers.try_send(outcomes);
            if is_last {
                self.batches.remove(&ticket);
            }
        }
        for ticket in operated {
            if let Some(done) = self.decisions.remove(&ticket) {
                let _ = done.send(());
            }
        }
        for ticket in refused {
            self.batches.remove(&ticket);
            self.decisions.remove(&ticket);
        }
    }
}

/// The last picture of what each host has, for the gauges.
#[derive(Clone, Debug, Default)]
pub struct Loads(Arc<Mutex<Vec<HostLoad>>>);

impl Loads {
    /// The last picture.
    #[must_use]
    pub fn last(&self) -> Vec<HostLoad> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn show(&self, engine: &Engine) {
        let load = |(host, in_flight, waiting): (&Host, _, _)| HostLoad { host: host.clone(), in_flight, waiting };
        let loads = engine.loads().map(load).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = loads;
    }
}
