//! What a run has seen, from the outside: publications and confirms, requests, dead letters, and what was done to the
//! servers. Times are durations since the run began.

use std::time::Duration;

use super::load::Answer;

/// One event's publication.
#[derive(Clone, Copy, Debug, Default)]
pub struct Published {
    /// When it was first handed to the broker.
    pub first: Option<Duration>,
    /// The broker has confirmed it.
    pub confirmed: bool,
    /// It was handed over more than once, because a confirm did not come: it may have overtaken another one.
    pub again: bool,
    /// The producer's connection that handed it over last, counted from 0.
    pub connection: u32,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The event's index in the load.
    pub event: usize,
    /// The number of the attempt, as the request says.
    pub attempt: u32,
    /// When its head had arrived.
    pub started: Duration,
    /// When it was answered, or its sender had gone.
    pub ended: Option<Duration>,
    /// How it was answered; none if its sender left before.
    pub answer: Option<Answer>,
    /// The body was the one that was published.
    pub intact: bool,
    /// The trace id of its `traceparent`.
    pub trace_id: String,
}

/// One message from the dead-letter exchange.
#[derive(Clone, Debug)]
pub struct DeadLetter {
    /// The event's index; none for a message that is not one of the load's events.
    pub event: Option<usize>,
    /// For poison: its number in the load.
    pub poison: Option<u32>,
    /// Its reason.
    pub reason: String,
    /// Attempts that the event had, if it says so.
    pub attempts: Option<u32>,
    /// It carries what it should: the body as it was published, a detail, and for a FAILED event its history.
    pub complete: bool,
}

/// A message that no polite client sends.
#[derive(Clone, Debug, Default)]
pub struct Hostile {
    /// What is hostile about it, in words.
    pub kind: &'static str,
    /// It keeps the contract all the same: it is to be delivered.
    pub honest: bool,
    /// How often it was handed to the broker.
    pub published: u32,
    /// The broker has confirmed it.
    pub confirmed: bool,
    /// The broker has not taken it.
    pub refused: bool,
    /// How often it was delivered.
    pub delivered: u32,
    /// How often it came to the dead-letter exchange.
    pub letters: u32,
}

impl Hostile {
    /// Whether nothing more has to become of it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.refused || self.delivered + self.letters > 0
    }
}

/// Something that was done to a worker or a server.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// In words.
    pub what: String,
    /// When it began.
    pub from: Duration,
    /// When it was over.
    pub to: Duration,
    /// An attempt that was in flight between the beginning and this moment may be sent again, because its outcome may not
    /// have been recorded. None if there is no excuse for that.
    pub doubt_until: Option<Duration>,
    /// A host was down until the end, and has to be found to be back.
    pub down: Option<Down>,
}

/// A host that was down.
#[derive(Clone, Copy, Debug)]
pub struct Down {
    /// Its number.
    pub host: u16,
    /// Deliveries to it go on within this time, if there are any to be made.
    pub goes_on_within: Duration,
}

/// Everything that was seen.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// By the index of the event.
    pub published: Vec<Published>,
    /// In the order of their beginning.
    pub requests: Vec<Request>,
    /// In the order of their arrival, without those of hostile messages.
    pub dead_letters: Vec<DeadLetter>,
    /// By their number in the load.
    pub hostile: Vec<Hostile>,
    /// In the order of their beginning.
    pub troubles: Vec<Trouble>,
    /// It ended before everything was final: what is missing may be under way.
    pub cut_short: bool,
}
