//! Publishes in the order of the input, with many events unconfirmed at a time.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use indicatif::ProgressBar;
use lapin::message::BasicReturnMessage;
use lapin::options::BasicPublishOptions;
use lapin::{Channel, Confirmation, ConnectionStatus, PublisherConfirm};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::Span;

use super::event::Outgoing;
use super::fault::specific;
use super::input::{Item, Piece};
use super::report::{Report, Tag, rate};
use crate::commands::signals::Signals;
use crate::telemetry::trace;

const TICK: Duration = Duration::from_millis(100);
/// How many ticks a stop by a signal waits for confirms that are on their way.
const PATIENCE_AFTER_SIGNAL: u32 = 50;
/// And after the connection was lost: every confirm has failed by then, unless lapin has forgotten it.
const PATIENCE_AFTER_LOSS: u32 = 10;

type Publishing = BoxFuture<'static, (u64, lapin::Result<PublisherConfirm>)>;
type Confirming = BoxFuture<'static, (u64, lapin::Result<Confirmation>)>;

/// The state of publishing.
pub(super) struct Sender {
    channel: Channel,
    connection: ConnectionStatus,
    exchange: String,
    limit: usize,
    bar: ProgressBar,
    report: Report,
    /// Everything that is published or about to be, and not yet answered; it stays here also if lapin never answers.
    open: BTreeMap<u64, Tag>,
    next: u64,
    publishing: Option<Publishing>,
    confirming: FuturesUnordered<Confirming>,
    reading: bool,
    /// Ticks left, once a stop has begun.
    patience: Option<u32>,
    lost: bool,
    told_blocked: bool,
}

impl Sender {
    pub(super) fn new(
        channel: Channel,
        connection: ConnectionStatus,
        exchange: &str,
        limit: usize,
        bar: ProgressBar,
    ) -> Self {
        Self {
            channel,
            connection,
            exchange: exchange.into(),
            limit,
            bar,
            report: Report::default(),
            open: BTreeMap::new(),
            next: 0,
            publishing: None,
            confirming: FuturesUnordered::new(),
            reading: true,
            patience: None,
            lost: false,
            told_blocked: false,
        }
    }

    /// Publishes everything that `input` gives, and waits for the confirms.
    pub(super) async fn run(&mut self, mut input: mpsc::Receiver<Item>, signals: &mut Signals) -> Report {
        let started = crate::clock::now();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.is_busy() && self.patience != Some(0) {
            let room = self.reading && self.publishing.is_none() && self.open.len() < self.limit;
            tokio::select! {
                Some((id, answer)) = self.confirming.next() => self.on_confirm(id, answer),
                (id, sent) = wait(&mut self.publishing) => self.on_published(id, sent),
                item = input.recv(), if room => self.on_item(item),
                () = signals.recv() => self.on_signal(),
                _ = tick.tick() => self.on_tick(crate::clock::now().saturating_sub(started)),
            }
        }
        if self.lost {
            self.report.stopped("the connection to the broker was lost".into());
        }
        for tag in std::mem::take(&mut self.open).into_values() {
            self.report.unknown(&tag);
        }
        std::mem::take(&mut self.report)
    }

    fn is_busy(&self) -> bool {
        self.reading || self.publishing.is_some() || !self.confirming.is_empty()
    }

    fn on_item(&mut self, item: Option<Item>) {
        let Some(item) = item else {
            self.reading = false;
            return;
        };
        self.bar.set_position(item.offset);
        match item.what {
            Piece::Event(event) => self.publish(item.line, *event),
            Piece::Bad(reason) => self.report.bad(item.line, &reason),
            Piece::Broken(reason) => {
                self.reading = false;
                self.report.stopped(reason);
                return;
            }
        }
        self.report.read(item.line);
    }

    fn publish(&mut self, line: Option<u64>, mut event: Outgoing) {
        let id = self.next;
        self.next += 1;
        // An event that is part of a trace already stays in it.
        let span = match event.traceparent {
            Some(_) => Span::none(),
            None => trace::publish(&self.exchange, &event.entity, &event.key),
        };
        let traceparent = trace::traceparent(&span).and_then(|text| text.to_str().ok().map(str::to_owned));
        event.traceparent = event.traceparent.or(traceparent);
        self.open.insert(id, Tag { line, key: event.key.clone() });
        let (channel, exchange) = (self.channel.clone(), self.exchange.as_str().into());
        self.publishing = Some(Box::pin(async move {
            let properties = event.properties(crate::clock::unix_seconds());
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let entity = event.entity.as_str().into();
            // It ends when the message is on its way.
            let _span = span;
            (id, channel.basic_publish(exchange, entity, options, &event.body, properties).await)
        }));
    }

    fn on_published(&mut self, id: u64, sent: lapin::Result<PublisherConfirm>) {
        self.publishing = None;
        match sent {
            Ok(confirm) => self.confirming.push(Box::pin(async move { (id, confirm.await) })),
            Err(error) => self.on_loss(specific(&error)),
        }
    }

    fn on_confirm(&mut self, id: u64, answer: lapin::Result<Confirmation>) {
        let confirmation = match answer {
            Ok(confirmation) => confirmation,
            // It stays open, and is reported as such at the end.
            Err(error) => return self.on_loss(specific(&error)),
        };
        let Some(tag) = self.open.remove(&id) else { return };
        match confirmation {
            Confirmation::Ack(returned) => {
                self.on_returned(&tag, returned);
                self.report.ack(tag);
            }
            Confirmation::Nack(returned) => {
                self.on_returned(&tag, returned);
                self.report.nack(&tag);
            }
            Confirmation::NotRequested => self.report.unknown(&tag),
        }
    }

    /// lapin gives a returned message to whichever confirm comes next, which need not be its own: when the broker confirms
    /// several at once, it may be any of them. So the message itself has to say which event it is.
    fn on_returned(&mut self, at: &Tag, returned: Option<BasicReturnMessage>) {
        let Some(message) = returned else { return };
        let key = message.delivery.properties.message_id().as_ref().map_or("", |key| key.as_str());
        let open = || self.open.values().find(|tag| tag.key == key).cloned();
        let tag = if at.key == key { Some(at.clone()) } else { open() };
        let tag = tag.unwrap_or_else(|| Tag { line: None, key: key.into() });
        self.report.returned(&tag, message.reply_text.as_str());
    }

    /// No more confirms can come. Of the errors that all that is open now ends with, only some tell why.
    fn on_loss(&mut self, reason: Option<String>) {
        self.reading = false;
        self.lost = true;
        self.patience.get_or_insert(PATIENCE_AFTER_LOSS);
        if let Some(reason) = reason {
            self.report.stopped(reason);
        }
    }

    /// The first signal ends the reading, the second one also the waiting.
    fn on_signal(&mut self) {
        self.reading = false;
        self.report.stopped("interrupted".into());
        self.patience = Some(if self.patience.is_none() { PATIENCE_AFTER_SIGNAL } else { 0 });
    }

    fn on_tick(&mut self, took: Duration) {
        self.patience = self.patience.map(|ticks| ticks.saturating_sub(1));
        let confirmed = self.report.confirmed();
        let rate = rate(confirmed, took).unwrap_or_default();
        self.bar.set_message(format!("{confirmed} confirmed, {} under way, {rate}/s", self.open.len()));
        self.bar.tick();
        if !self.channel.status().connected() {
            self.on_loss(None);
        }
        if self.connection.blocked() && !self.told_blocked {
            self.told_blocked = true;
            let told = "the broker takes no events for now (it is short of memory or disk): waiting for it";
            self.bar.suspend(|| drop(writeln!(std::io::stderr(), "{told}")));
        }
    }
}

/// The answer of what is being published, if anything is.
async fn wait(publishing: &mut Option<Publishing>) -> (u64, lapin::Result<PublisherConfirm>) {
    match publishing {
        Some(publishing) => publishing.await,
        None => std::future::pending().await,
    }
}
