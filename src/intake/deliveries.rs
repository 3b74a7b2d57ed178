//! The messages of one queue, as they come.

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;

/// The messages of one queue.
pub struct Deliveries(lapin::Consumer);

impl Deliveries {
    /// Of this consumer.
    #[must_use]
    pub fn new(consumer: lapin::Consumer) -> Self {
        Self(consumer)
    }

    /// The next message. A queue that is deleted ends its consumer silently: that is an error, too.
    ///
    /// # Errors
    /// Why there are no more.
    pub async fn next(&mut self) -> Result<Delivery, String> {
        match self.0.next().await {
            Some(delivery) => delivery.map_err(|error| error.to_string()),
            None => Err("the broker cancelled a consumer".into()),
        }
    }

    /// What is there already, without waiting. An error comes again by [`Self::next`].
    pub fn ready_now(&mut self) -> Option<Delivery> {
        self.next().now_or_never()?.ok()
    }
}
