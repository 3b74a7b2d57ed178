//! The one way into the dead-letter exchange.

use lapin::BasicProperties;
use lapin::types::AMQPValue;

use super::letter::{self, text};
use super::publisher::{PublishError, Publisher};
use super::topology::Names;

/// Publishes dead letters.
#[derive(Clone)]
pub struct DeadLetters {
    /// To the broker.
    pub publisher: Publisher,
    /// The names of exchanges and queues.
    pub names: Names,
}

/// What a dead letter is about.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The message's properties, as they came.
    pub original: &'a BasicProperties,
    /// Its routing key.
    pub routing_key: &'a str,
    /// Its body.
    pub body: &'a [u8],
    /// Why it is dead, for programs.
    pub reason: &'a str,
    /// Why it is dead, for people.
    pub detail: &'a str,
}

impl DeadLetters {
    /// The exchange.
    #[must_use]
    pub fn exchange(&self) -> String {
        self.names.dead_letter()
    }

    /// Publishes a dead letter with more headers, and waits until the broker has confirmed that it is in a queue. If the broker
    /// refuses it, the exchange and its queue are declared where they are missing, and the letter goes again, at last in its
    /// plainest form.
    ///
    /// # Errors
    /// Why it is not known to be there. After [`PublishError::is_refusal`] there is nothing that could still be tried.
    pub async fn publish<const N: usize>(
        &self,
        about: About<'_>,
        more: [(&'static str, AMQPValue); N],
    ) -> Result<(), PublishError> {
        let About { original, routing_key, body, reason, detail } = about;
        let exchange = self.exchange();
        let ours = [("onceward-reason", text(reason)), ("onceward-detail", text(detail))];
        let whole = letter::properties(original, ours.into_iter().chain(more));
        let refused = match self.publisher.store(&exchange, routing_key, whole.clone(), body).await {
            Err(error) if error.is_refusal() => error,
            done => return done,
        };
        self.publisher.mend_dead_letters(&self.names).await;
        match self.publisher.store(&exchange, routing_key, whole, body).await {
            Err(error) if error.is_refusal() => {}
            done => return done,
        }
        tracing::warn!(error = %refused, reason, "the broker refuses a dead letter; it is published in its plainest form");
        self.publisher.store(&exchange, routing_key, letter::plainest(original, reason, detail), body).await
    }
}
