//! What each body begins with: whose event it is, which one, and when it was due.

use std::time::Duration;

/// Events that a scenario tells apart, such as those of the hot entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What the scenario measures first of all.
    Usual = 0,
    /// The others: of the hot entity, of the host that hangs, of the warm-up.
    Special = 1,
}

/// In binary and at fixed places, so that reading it costs the receiver nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The number of its entity.
    pub entity: u32,
    /// Its number in the order of its entity, from 0.
    pub number: u32,
    /// Its number in the load, from 0.
    pub index: u32,
    pub group: Group,
    /// When it was to be published, by [`super::clock`]; zero for an event without a schedule.
    pub due: Duration,
}

impl Stamp {
    pub const BYTES: usize = 24;

    pub fn write(&self, body: &mut [u8]) {
        let due = u64::try_from(self.due.as_nanos()).unwrap_or(u64::MAX);
        body[0..4].copy_from_slice(&self.entity.to_le_bytes());
        body[4..8].copy_from_slice(&self.number.to_le_bytes());
        body[8..12].copy_from_slice(&self.index.to_le_bytes());
        body[12..16].copy_from_slice(&(self.group as u32).to_le_bytes());
        body[16..24].copy_from_slice(&due.to_le_bytes());
    }

    /// None if the body is too short to hold one.
    pub fn read(body: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_le_bytes(body.get(at..at + 4)?.try_into().ok()?));
        let due = u64::from_le_bytes(body.get(16..24)?.try_into().ok()?);
        let group = if word(12)? == Group::Special as u32 { Group::Special } else { Group::Usual };
        let due = Duration::from_nanos(due);
        Some(Self { entity: word(0)?, number: word(4)?, index: word(8)?, group, due })
    }
}
