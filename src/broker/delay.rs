//! The delay ladder: a queue of fixed TTL for each bit of a delay.
//!
//! A token enters at the level of its longest wait. At each level from there down its routing key says whether it waits
//! there (that level's queue dead-letters it into the next level when its TTL is over) or passes by. TTL expires only at a
//! queue's head: with one TTL to a queue, the head is always the first to expire. Tokens name an event; payloads never
//! enter the ladder.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::domain::backoff::TICK;
use crate::domain::candidate::Token;
use crate::domain::event::{EventId, Partition};

/// Levels of the ladder: the longest delay is 2^10 - 1 ticks, 102.3 s. A longer one takes several rounds.
pub const LEVELS: u32 = 10;

const MOST_TICKS: u64 = (1 << LEVELS) - 1;

/// A message of a due queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Look whether this event's next attempt is due.
    Wake(Token),
    /// An operator asks for a FAILED event again.
    Redrive(EventId),
    /// An operator lets an entity go on without the FAILED event that it waits for.
    Skip(EventId),
}

impl Due {
    /// The message body: a word and numbers.
    #[must_use]
    pub fn write(&self) -> String {
        match self {
            Self::Wake(token) => format!("wake {} {}", token.id, token.attempts),
            Self::Redrive(id) => format!("redrive {id}"),
            Self::Skip(id) => format!("skip {id}"),
        }
    }

    /// Reads [`Self::write`] back; none if it is something else.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let mut parts = std::str::from_utf8(body).ok()?.split(' ');
        let word = parts.next()?;
        let id = EventId(parts.next()?.parse().ok()?);
        let due = match word {
            "wake" => Self::Wake(Token { id, attempts: parts.next()?.parse().ok()? }),
            "redrive" => Self::Redrive(id),
            "skip" => Self::Skip(id),
            _ => return None,
        };
        parts.next().is_none().then_some(due)
    }
}

/// The header of an operator's decision that says which failure it is about.
const FAILED_AT: &str = "onceward-failed-at";

/// The properties of an operator's decision on an event that became FAILED then, in microseconds since 1970.
#[must_use]
pub fn decision(failed_us: i64) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(FAILED_AT.into(), AMQPValue::LongLongInt(failed_us));
    BasicProperties::default().with_headers(headers)
}

/// Which failure an operator's decision is about; none if it doesn't say.
#[must_use]
pub fn failed_at(properties: &BasicProperties) -> Option<i64> {
    match properties.headers().as_ref()?.inner().get(FAILED_AT)? {
        AMQPValue::LongLongInt(failed_us) => Some(*failed_us),
        _ => None,
    }
}

/// How long the queue of a level keeps a token.
#[must_use]
pub fn ttl(level: u32) -> Duration {
    TICK * (1 << level)
}

/// The routing key through the ladder: the bits of the delay from the highest level down, then the partition. A delay
/// is rounded up to a tick, and cut to the longest that the ladder has.
#[must_use]
pub fn routing_key(delay: Duration, partition: Partition) -> String {
    let ticks = ticks(delay);
    let bits = (0..LEVELS).rev().map(|level| if ticks >> level & 1 == 1 { "1." } else { "0." });
    bits.collect::<String>() + &partition.to_string()
}

/// The level at which the token of a delay enters the ladder. The levels above would only pass it on: for a delay of 1 s
/// there are six of them, which cost the broker three times as much as the publish itself.
#[must_use]
pub fn entry(delay: Duration) -> u32 {
    ticks(delay).checked_ilog2().unwrap_or(0)
}

fn ticks(delay: Duration) -> u64 {
    let ticks = delay.as_millis().div_ceil(TICK.as_millis());
    u64::try_from(ticks).unwrap_or(MOST_TICKS).min(MOST_TICKS)
}

/// The topic pattern for tokens whose bit at `level` is `bit`.
#[must_use]
pub fn pattern(level: u32, bit: u8) -> String {
    let before = "*.".repeat((LEVELS - 1 - level) as usize);
    format!("{before}{bit}.#")
}

/// The topic pattern for tokens of a partition.
#[must_use]
pub fn due_pattern(partition: Partition) -> String {
    "*.".repeat(LEVELS as usize) + &partition.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_routing_key_spells_the_delay_in_ticks() {
        let key = |millis| routing_key(Duration::from_millis(millis), Partition(7));
        assert_eq!(key(0), "0.0.0.0.0.0.0.0.0.0.7");
        assert_eq!(key(100), "0.0.0.0.0.0.0.0.0.1.7");
        assert_eq!(key(101), "0.0.0.0.0.0.0.0.1.0.7");
        assert_eq!(key(1_000), "0.0.0.0.0.0.1.0.1.0.7");
        assert_eq!(key(102_300), "1.1.1.1.1.1.1.1.1.1.7");
        assert_eq!(key(86_400_000), "1.1.1.1.1.1.1.1.1.1.7");
    }

    #[test]
    fn a_token_enters_where_it_waits_first() {
        let entry = |millis| entry(Duration::from_millis(millis));
        let levels = [(0, 0), (100, 0), (101, 1), (300, 1), (1_000, 3), (2_200, 4), (60_000, 9), (86_400_000, 9)];
        for (millis, level) in levels {
            assert_eq!(entry(millis), level, "{millis} ms");
        }
    }

    #[test]
    fn patterns_look_at_one_place_of_the_key() {
        assert_eq!(pattern(9, 1), "1.#");
        assert_eq!(pattern(0, 0), "*.*.*.*.*.*.*.*.*.0.#");
        assert_eq!(due_pattern(Partition(31)), "*.*.*.*.*.*.*.*.*.*.31");
    }

    #[test]
    fn a_decision_says_which_failure_it_is_about() {
        assert_eq!(failed_at(&decision(1_700_000_000_000_001)), Some(1_700_000_000_000_001));
        assert_eq!(failed_at(&BasicProperties::default()), None);
    }

    #[test]
    fn due_messages_are_read_back_and_nothing_else_is() {
        let id = EventId(9_000_000_000);
        for due in [Due::Wake(Token { id, attempts: 4 }), Due::Redrive(id), Due::Skip(id)] {
            assert_eq!(Due::read(due.write().as_bytes()), Some(due));
        }
        for wrong in ["", "wake 2", "wake 2 3 4", "wake a 3", "wake 2 -3", "skip", "jump 1", "redrive 1 2"] {
            assert_eq!(Due::read(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
