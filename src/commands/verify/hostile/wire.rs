//! What goes over the wire, byte by byte: also what no client would write.

use std::collections::BTreeMap;

/// The payload of a frame, put together.
#[derive(Default)]
pub(super) struct Payload(pub(super) Vec<u8>);

impl Payload {
    pub(super) fn method(class: u16, method: u16) -> Self {
        Self::default().u16(class).u16(method)
    }

    pub(super) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn u8(self, number: u8) -> Self {
        self.bytes(&[number])
    }

    pub(super) fn u16(self, number: u16) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    pub(super) fn u32(self, number: u32) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    /// A short string, of at most 255 bytes.
    pub(super) fn short(self, text: &[u8]) -> Self {
        let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
        self.u8(length).bytes(&text[..length.into()])
    }

    /// A long string, or the fields of a table.
    pub(super) fn long(self, bytes: &[u8]) -> Self {
        self.bytes(&sized(bytes))
    }
}

/// Properties by their place, which is also the order in which they go over the wire.
#[derive(Default)]
pub(super) struct Properties {
    fields: BTreeMap<u8, Vec<u8>>,
    /// Flags that announce nothing: the lowest says that more flags follow.
    pub(super) more_flags: u16,
}

impl Properties {
    pub(super) const CONTENT_TYPE: u8 = 0;
    pub(super) const HEADERS: u8 = 2;
    pub(super) const DELIVERY_MODE: u8 = 3;
    pub(super) const PRIORITY: u8 = 4;
    pub(super) const CORRELATION_ID: u8 = 5;
    pub(super) const REPLY_TO: u8 = 6;
    pub(super) const EXPIRATION: u8 = 7;
    pub(super) const MESSAGE_ID: u8 = 8;
    pub(super) const TIMESTAMP: u8 = 9;
    pub(super) const TYPE: u8 = 10;
    pub(super) const APP_ID: u8 = 12;

    pub(super) fn set(&mut self, place: u8, bytes: &[u8]) {
        self.fields.insert(place, bytes.to_vec());
    }

    /// One that is a short string.
    pub(super) fn set_text(&mut self, place: u8, text: &[u8]) {
        self.set(place, &Payload::default().short(text).0);
    }

    pub(super) fn clear(&mut self) {
        self.fields.clear();
    }

    /// The flags and what they announce.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let flags = self.fields.keys().fold(self.more_flags, |flags, place| flags | 0x8000 >> place);
        self.fields.values().fold(Payload::default().u16(flags), |payload, field| payload.bytes(field)).0
    }
}

/// The fields of a header table, without its length.
#[derive(Default)]
pub(super) struct Table(pub(super) Vec<u8>);

impl Table {
    /// Adds a field with its type letter, and its value as bytes.
    pub(super) fn add(&mut self, name: &[u8], kind: u8, value: &[u8]) {
        self.0.extend(Payload::default().short(name).u8(kind).bytes(value).0);
    }

    /// Adds a field that is a long string.
    pub(super) fn add_text(&mut self, name: &[u8], text: &[u8]) {
        self.add(name, b'S', &sized(text));
    }
}

/// A length of four bytes in front, as long strings, tables and arrays have it.
pub(super) fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), bytes].concat()
}

/// The value of a header that holds others, one in the other, `depth` in all. Their types are those of the pattern in turns,
/// `F` for a table and `A` for an array; the innermost is empty.
pub(super) fn nested(pattern: &[u8], depth: usize) -> Vec<u8> {
    let kinds: Vec<u8> = pattern.iter().copied().cycle().take(depth).collect();
    // From the inside: how long each one's content is.
    let mut lengths = vec![0_u32];
    for kind in kinds.iter().rev().skip(1) {
        let inner = lengths.last().copied().unwrap_or_default();
        // The inner one's type and length; in a table also its empty name.
        lengths.push(inner + if *kind == b'F' { 6 } else { 5 });
    }
    let mut value = Payload::default();
    let mut outer = None;
    for (kind, length) in kinds.iter().zip(lengths.iter().rev()) {
        value = match outer {
            Some(b'F') => value.u8(0).u8(*kind),
            Some(_) => value.u8(*kind),
            None => value,
        };
        value = value.u32(*length);
        outer = Some(*kind);
    }
    value.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_values_hold_one_another() {
        assert_eq!(nested(b"F", 1), [0; 4]);
        assert_eq!(nested(b"A", 2), [0, 0, 0, 5, b'A', 0, 0, 0, 0]);
        // A table whose field without a name is an array, which holds a table.
        let inner = [&sized(&[])[..]].concat();
        let array = sized(&[b"F", &*inner].concat());
        assert_eq!(nested(b"FA", 3), sized(&[&[0, b'A'], &*array].concat()));
    }

    #[test]
    fn flags_announce_what_follows() {
        let mut properties = Properties { more_flags: 1, ..Properties::default() };
        properties.set_text(Properties::MESSAGE_ID, b"a");
        properties.set(Properties::PRIORITY, &[9]);
        assert_eq!(properties.bytes(), [0b0000_1000, 0b1000_0001, 9, 1, b'a']);
    }
}
