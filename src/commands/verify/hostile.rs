//! Messages that no polite client sends. lapin refuses to send most of them, so that they go frame by frame over a
//! connection of their own, each when its turn comes among the events.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::args::VerifyArgs;
use super::receive::Receivers;
use super::watch::Watch;
use crate::config::nodes::BrokerUrls;
use crate::reconnect::Delays;

pub(super) mod kinds;
mod link;
mod wire;

use self::link::{Failure, Link};

/// Of a message at which the broker hangs up so often without a word, it is taken that it refuses it.
const HANG_UPS: u32 = 5;

/// A message whose parts are bytes, whatever they mean.
struct RawMessage {
    routing_key: Vec<u8>,
    /// The flags and what they announce, as they go over the wire.
    properties: Vec<u8>,
    body: Vec<u8>,
}

/// Publishes those whose turn has come until no more come, and returns when each is confirmed or refused; or with a sentence,
/// if the broker says neither for as long as a run waits at its end.
pub(super) async fn all(
    args: &VerifyArgs,
    watch: &Arc<Watch>,
    receivers: &Receivers,
    mut turns: mpsc::UnboundedReceiver<u32>,
) -> Result<(), String> {
    let mut publisher = Publisher::new(&args.broker.amqp_url, &args.broker.exchange);
    while let Some(number) = turns.recv().await {
        let message = kinds::message(&watch.load().run, number, receivers.url(0));
        let (begun, mut delays, mut hang_ups) = (watch.now(), Delays::default(), 0);
        loop {
            if publisher.is_connected().await {
                watch.hostile(number, |sent| sent.published += 1);
                match publisher.publish(&message).await {
                    Ok(()) => {
                        watch.hostile(number, |sent| sent.confirmed = true);
                        break;
                    }
                    Err(Failure::Lost(why)) if hang_ups < HANG_UPS => {
                        tracing::debug!(number, why, "a hostile message is not confirmed; it is sent again");
                        hang_ups += 1;
                    }
                    Err(Failure::Refused(why) | Failure::Lost(why)) => {
                        tracing::debug!(number, why, "the broker refuses a hostile message");
                        watch.hostile(number, |sent| sent.refused = true);
                        break;
                    }
                }
            }
            if watch.now().saturating_sub(begun) > args.finish_within {
                return Err("the broker confirms no hostile message".into());
            }
            delays.wait().await;
        }
    }
    Ok(())
}

/// One link at a time, to one node of the broker after the other. The broker ends it when it refuses a message.
struct Publisher<'a> {
    urls: &'a BrokerUrls,
    exchange: &'a str,
    turn: usize,
    link: Option<Link>,
}

impl<'a> Publisher<'a> {
    fn new(urls: &'a BrokerUrls, exchange: &'a str) -> Self {
        Self { urls, exchange, turn: 0, link: None }
    }

    /// Whether there is a link, or one can be had.
    async fn is_connected(&mut self) -> bool {
        if self.link.is_none() {
            let url = &self.urls.all()[self.turn % self.urls.all().len()];
            self.turn += 1;
            match Link::open(url).await {
                Ok(link) => self.link = Some(link),
                Err(error) => tracing::debug!(node = %url, %error, "no link for hostile messages"),
            }
        }
        self.link.is_some()
    }

    async fn publish(&mut self, message: &RawMessage) -> Result<(), Failure> {
        let mut link = self.link.take().ok_or_else(|| Failure::Lost("there is no link".into()))?;
        link.publish(self.exchange, message).await?;
        self.link = Some(link);
        Ok(())
    }
}
