//! A message's properties and header tables, byte by byte: also those that no client would write.

use std::collections::BTreeMap;

/// Properties by their place, which is also the order in which they go over the wire.
#[derive(Clone, Debug, Default)]
pub struct Properties {
    fields: BTreeMap<u8, Vec<u8>>,
    more_flags: u16,
}

impl Properties {
    pub const CONTENT_TYPE: u8 = 0;
    pub const CONTENT_ENCODING: u8 = 1;
    const HEADERS: u8 = 2;
    pub const DELIVERY_MODE: u8 = 3;
    pub const PRIORITY: u8 = 4;
    pub const CORRELATION_ID: u8 = 5;
    pub const REPLY_TO: u8 = 6;
    pub const EXPIRATION: u8 = 7;
    pub const MESSAGE_ID: u8 = 8;
    pub const TIMESTAMP: u8 = 9;
    pub const TYPE: u8 = 10;
    pub const USER_ID: u8 = 11;
    pub const APP_ID: u8 = 12;
    pub const CLUSTER_ID: u8 = 13;

    /// Those of an event: its key, where it goes, and that it is persistent.
    pub fn event(key: &str, headers: &Table) -> Self {
        Self::default()
            .with_short(Self::MESSAGE_ID, key.as_bytes())
            .with(Self::DELIVERY_MODE, &[2])
            .with_headers(headers)
    }

    /// A property as the bytes that it has on the wire.
    pub fn with(mut self, place: u8, bytes: &[u8]) -> Self {
        self.fields.insert(place, bytes.to_vec());
        self
    }

    /// A property that is a short string.
    pub fn with_short(self, place: u8, text: &[u8]) -> Self {
        let length: u8 = text.len().try_into().expect("at most 255 bytes");
        self.with(place, &[&[length], text].concat())
    }

    pub fn with_headers(self, headers: &Table) -> Self {
        self.with(Self::HEADERS, &sized(headers.bytes()))
    }

    /// Flags that announce nothing: the lowest says that more flags follow.
    pub fn with_flags(self, flags: u16) -> Self {
        Self { more_flags: self.more_flags | flags, ..self }
    }

    /// The flags and what they announce.
    pub fn bytes(&self) -> Vec<u8> {
        let flags = self.fields.keys().fold(self.more_flags, |flags, place| flags | 0x8000 >> place);
        [&flags.to_be_bytes()[..], &self.fields.values().flatten().copied().collect::<Vec<_>>()].concat()
    }

    /// Reads what is well-formed.
    pub fn read(bytes: &[u8]) -> Self {
        let (flags, mut rest) = bytes.split_at(2);
        let flags = u16::from_be_bytes([flags[0], flags[1]]);
        let mut read = Self { more_flags: flags & 0b11, ..Self::default() };
        for place in (0..=Self::CLUSTER_ID).filter(|place| flags & (0x8000 >> place) != 0) {
            let length = match place {
                Self::HEADERS => 4 + long(rest),
                Self::DELIVERY_MODE | Self::PRIORITY => 1,
                Self::TIMESTAMP => 8,
                _ => 1 + usize::from(rest[0]),
            };
            let (field, more) = rest.split_at(length);
            read.fields.insert(place, field.to_vec());
            rest = more;
        }
        read
    }

    /// A property that is a short string.
    pub fn short(&self, place: u8) -> Option<Vec<u8>> {
        self.fields.get(&place).map(|bytes| bytes[1..].to_vec())
    }

    /// As RabbitMQ 4 gives them out: it reads them, and writes them anew.
    pub fn written_anew(&self) -> Self {
        let mut anew = Self { more_flags: 0, ..self.clone() };
        if let Some(headers) = self.headers() {
            anew = anew.with_headers(&headers.written_anew());
        }
        let expiration =
            self.short(Self::EXPIRATION).and_then(|text| String::from_utf8(text).ok()?.parse::<u64>().ok());
        if let Some(time) = expiration {
            anew = anew.with_short(Self::EXPIRATION, time.to_string().as_bytes());
        }
        anew
    }

    pub fn headers(&self) -> Option<Table> {
        self.fields.get(&Self::HEADERS).map(|bytes| Table(bytes[4..].to_vec()))
    }
}

/// The fields of a header table, without its length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(Vec<u8>);

impl Table {
    /// With the one header that every event needs.
    pub fn to(destination: &str) -> Self {
        Self::default().with_text(b"destination", destination.as_bytes())
    }

    /// A field with its type letter, and its value as bytes.
    pub fn with(mut self, name: &[u8], kind: u8, value: &[u8]) -> Self {
        self.0.push(name.len().try_into().expect("at most 255 bytes"));
        self.0.extend_from_slice(name);
        self.0.push(kind);
        self.0.extend_from_slice(value);
        self
    }

    /// A field that is a long string.
    pub fn with_text(self, name: &[u8], text: &[u8]) -> Self {
        self.with(name, b'S', &sized(text))
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// In the order of the names, each once.
    fn written_anew(&self) -> Self {
        let mut fields: Vec<_> = self.fields().collect();
        fields.sort_by_key(|(name, ..)| *name);
        fields.dedup_by_key(|(name, ..)| *name);
        fields.into_iter().fold(Self::default(), |table, (name, kind, value)| {
            let (kind, value) = written_anew(kind, value);
            table.with(name, kind, &value)
        })
    }

    /// The first field of this name: its type letter, and its value as bytes.
    pub fn find(&self, name: &[u8]) -> Option<(u8, &[u8])> {
        self.fields().find(|(found, ..)| *found == name).map(|(_, kind, value)| (kind, value))
    }

    /// Each field's name, type letter, and value as bytes.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], u8, &[u8])> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let (name, after) = rest.get(1..)?.split_at(rest[0].into());
            let (kind, value) = (after[0], &after[1..]);
            let (value, more) = value.split_at(length_of(kind, value));
            rest = more;
            Some((name, kind, value))
        })
    }
}

/// Whatever is true is 1, and a large integer has one type. What is larger than this is deep, and has neither.
fn written_anew(kind: u8, value: &[u8]) -> (u8, Vec<u8>) {
    match kind {
        b't' => (kind, vec![u8::from(value[0] != 0)]),
        b'L' => (b'l', value.to_vec()),
        b'F' if value.len() < 1_024 => (kind, sized(Table(value[4..].to_vec()).written_anew().bytes())),
        b'A' if value.len() < 1_024 => {
            let (mut rest, mut anew) = (&value[4..], Vec::new());
            while let Some((kind, after)) = rest.split_first() {
                let (value, more) = after.split_at(length_of(*kind, after));
                let (kind, value) = written_anew(*kind, value);
                anew.push(kind);
                anew.extend(value);
                rest = more;
            }
            (kind, sized(&anew))
        }
        _ => (kind, value.to_vec()),
    }
}

/// The length of a header's value, by its type.
fn length_of(kind: u8, value: &[u8]) -> usize {
    match kind {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'L' | b'd' | b'T' => 8,
        _ => 4 + long(value),
    }
}

/// A length of four bytes in front, as long strings, tables, arrays and byte arrays have it.
pub fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("fits a frame");
    [&length.to_be_bytes(), bytes].concat()
}

/// The value of a header of type `kinds[0]` that holds one of type `kinds[1]`, and so on; the innermost is empty. `F` is a
/// table, and `A` an array.
pub fn nested(kinds: &[u8]) -> Vec<u8> {
    // From the inside: how long each one's content is.
    let mut lengths = Vec::new();
    let mut length = 0_u32;
    for kind in kinds.iter().rev() {
        if !lengths.is_empty() {
            // The inner one's type and length; in a table also its empty name.
            length += if *kind == b'F' { 6 } else { 5 };
        }
        lengths.push(length);
    }
    let mut value = Vec::new();
    let mut outer = None;
    for (kind, length) in kinds.iter().zip(lengths.iter().rev()) {
        match outer {
            Some(b'F') => value.extend_from_slice(&[0, *kind]),
            Some(_) => value.push(*kind),
            None => {}
        }
        value.extend_from_slice(&length.to_be_bytes());
        outer = Some(*kind);
    }
    value
}

fn long(bytes: &[u8]) -> usize {
    u32::from_be_bytes(bytes[..4].try_into().expect("4 bytes")) as usize
}
