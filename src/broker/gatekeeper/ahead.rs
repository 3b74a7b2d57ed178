//! What the broker has sent ahead over one connection and nobody has recorded yet: bounded in bytes, whatever the prefetch.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use futures_util::task::AtomicWaker;

use super::properties::may_be_left_to_the_queue;
use crate::domain::poison::{Poison, Unreadable};

/// Bytes of messages that one connection may have ahead. Beyond it nothing more is read from the socket, but for the message
/// that has begun; TCP holds the broker up.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// What a message takes beside its body and its headers.
const A_MESSAGE: usize = 1_024;
/// Bodies up to this size are read even where they are over the limit, so that their dead letter can say so and be complete.
const READ_TO_EXPLAIN: usize = 8 * 1024 * 1024;

/// The messages ahead on one connection: the gatekeeper counts them in, and whoever consumes takes them.
#[derive(Default)]
pub struct Ahead {
    counted: Mutex<Counted>,
    /// Of the reader of the socket, which waits for room.
    reader: AtomicWaker,
}

#[derive(Default)]
struct Counted {
    bytes: usize,
    channels: HashMap<u16, Channel>,
}

/// A channel whose messages are counted.
struct Channel {
    body_limit: usize,
    waiting: VecDeque<Waiting>,
    /// Nobody takes messages any more: those that still come are not read.
    ended: bool,
}

/// A message that the consumer has not taken yet.
struct Waiting {
    tag: u64,
    bytes: usize,
    refused: Option<Refused>,
}

/// A message that was kept from its consumer.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why.
    pub poison: Poison,
    /// Its properties in wire format, if they came apart from it: its body came whole then, and the message must not be left
    /// to its queue. Otherwise nothing came but its number.
    pub apart: Option<Bytes>,
}

/// What the gatekeeper has seen of a message.
pub struct Seen<'a> {
    /// The broker's number of the delivery, on its channel.
    pub tag: u64,
    /// In wire format.
    pub properties: &'a [u8],
    /// Bytes that they take when they are read.
    pub takes: usize,
    /// Of the body, as it is announced.
    pub body: u64,
    /// Why it can't be read, if it can't.
    pub refused: Option<Unreadable>,
}

/// What is passed on of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// All of it.
    Whole,
    /// Its body.
    Body,
    /// Neither body nor properties.
    Nothing,
}

impl Ahead {
    /// Counts a channel's messages from now on. Bodies over the limit are cut, unless a dead letter can still hold them.
    #[must_use]
    pub fn watch(self: &Arc<Self>, channel: u16, body_limit: usize) -> Watched {
        let mut counted = self.lock();
        counted.forget(channel);
        counted.channels.insert(channel, Channel { body_limit, waiting: VecDeque::new(), ended: false });
        Watched { ahead: self.clone(), channel }
    }

    /// Counts a message, and says what of it is passed on.
    pub fn count(&self, channel: u16, seen: &Seen<'_>) -> Passage {
        let mut counted = self.lock();
        let Counted { bytes, channels } = &mut *counted;
        let Some(channel) = channels.get_mut(&channel) else {
            return if seen.refused.is_none() { Passage::Whole } else { Passage::Nothing };
        };
        if channel.ended {
            return Passage::Nothing;
        }
        let (size, limit) = (usize::try_from(seen.body).unwrap_or(usize::MAX), channel.body_limit);
        let too_large = (size > limit.max(READ_TO_EXPLAIN)).then_some(Poison::BodyTooLarge { size, limit });
        let poison = seen.refused.map(Poison::Unreadable).or(too_large);
        let (passage, takes) = match &poison {
            None => (Passage::Whole, size.saturating_add(seen.takes)),
            Some(_) if may_be_left_to_the_queue(seen.properties) => (Passage::Nothing, 0),
            Some(_) => (Passage::Body, size.saturating_add(seen.properties.len())),
        };
        let apart = (passage == Passage::Body).then(|| Bytes::copy_from_slice(seen.properties));
        let refused = poison.map(|poison| Refused { poison, apart });
        // No more than can be counted, whatever the broker announces.
        let takes = A_MESSAGE.saturating_add(takes).min(usize::MAX - *bytes);
        *bytes += takes;
        channel.waiting.push_back(Waiting { tag: seen.tag, bytes: takes, refused });
        passage
    }

    /// Whether so much is ahead that no further message is to be begun.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.lock().bytes >= MOST_BYTES
    }

    /// Has a reader of the socket woken when there is room again.
    pub fn wake_when_room(&self, waker: &Waker) {
        self.reader.register(waker);
    }

    /// The channel is closed, on the wire: whatever comes with its number is of a new one.
    pub fn closed(&self, channel: u16) {
        let mut counted = self.lock();
        if counted.channels.get(&channel).is_some_and(|channel| channel.ended) {
            counted.channels.remove(&channel);
        }
    }

    /// Changes what is counted, and wakes the reader of the socket if that makes room.
    fn less(&self, take_away: impl FnOnce(&mut Counted)) {
        let has_room = {
            let mut counted = self.lock();
            let was_full = counted.bytes >= MOST_BYTES;
            take_away(&mut counted);
            was_full && counted.bytes < MOST_BYTES
        };
        if has_room {
            self.reader.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// Takes away what waits on a channel, and all that still comes.
    fn forget(&mut self, channel: u16) {
        let Some(channel) = self.channels.get_mut(&channel) else { return };
        channel.ended = true;
        let waiting = std::mem::take(&mut channel.waiting);
        self.bytes -= waiting.iter().map(|waiting| waiting.bytes).sum::<usize>();
    }
}

/// The consumer's end of a channel whose messages are counted. Dropped, what the channel still brings is not read.
pub struct Watched {
    ahead: Arc<Ahead>,
    channel: u16,
}

impl Watched {
    /// The consumer has come to this delivery: what it takes of the memory, until the share is dropped; and why the message
    /// was kept from it, if it was.
    #[must_use]
    pub fn take(&self, tag: u64) -> (Share, Option<Refused>) {
        let mut counted = self.ahead.lock();
        let waiting = counted.channels.get_mut(&self.channel).map(|channel| &mut channel.waiting);
        // One that was passed over, which no library should do, is not counted for ever.
        let (mut bytes, mut refused) = (0, None);
        if let Some(waiting) = waiting {
            while waiting.front().is_some_and(|first| first.tag <= tag)
                && let Some(first) = waiting.pop_front()
            {
                bytes += first.bytes;
                refused = first.refused;
            }
        }
        (Share { ahead: self.ahead.clone(), bytes }, refused)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.ahead.less(|counted| counted.forget(self.channel));
    }
}

/// What one message takes of the memory for those ahead; dropped when its body is recorded, or accounted for elsewhere.
pub struct Share {
    ahead: Arc<Ahead>,
    bytes: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.ahead.less(|counted| counted.bytes -= self.bytes);
    }
}
