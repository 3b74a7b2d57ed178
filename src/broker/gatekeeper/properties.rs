//! A look at a message's properties in wire format, before the library reads them: flat, in one pass, without recursion.

use crate::domain::poison::Unreadable;

/// Tables and arrays in one another that are read. The library's reader calls itself for each level, and so does whatever
/// looks at the value afterwards; `x-death`, the deepest that a broker makes, has three.
const DEEPEST: usize = 16;

/// What a value in an array takes, read, in a vector that grows.
const A_VALUE: usize = 64;
/// What a value in a table takes, read, with its name: the library makes a tree of them.
const A_NAMED_VALUE: usize = 128;

/// What stands in the properties, in their order, from the highest flag down (AMQP 0-9-1, 4.2.6.1 and the class `basic`).
const PROPERTIES: [(&str, Kind); 14] = [
    ("content_type", Kind::ShortString),
    ("content_encoding", Kind::ShortString),
    ("headers", Kind::Table),
    ("delivery_mode", Kind::Fixed(1)),
    ("priority", Kind::Fixed(1)),
    ("correlation_id", Kind::ShortString),
    ("reply_to", Kind::ShortString),
    ("expiration", Kind::ShortString),
    ("message_id", Kind::ShortString),
    ("timestamp", Kind::Fixed(8)),
    ("type", Kind::ShortString),
    ("user_id", Kind::ShortString),
    ("app_id", Kind::ShortString),
    ("cluster_id", Kind::ShortString),
];

#[derive(Clone, Copy)]
enum Kind {
    ShortString,
    Table,
    Fixed(usize),
}

/// Looks through the properties; gives the bytes that they take when they are read, which may be many times as many.
///
/// # Errors
/// What the library can't read, or should not.
pub fn look_through(properties: &[u8]) -> Result<usize, Unreadable> {
    let mut rest = Bytes(properties);
    let flags = u16::from_be_bytes(rest.array()?);
    let mut takes = properties.len();
    for (at, (name, kind)) in PROPERTIES.into_iter().enumerate() {
        if flags & (1 << (15 - at)) == 0 {
            continue;
        }
        match kind {
            Kind::Fixed(length) => drop(rest.take(length)?),
            Kind::ShortString => drop(rest.short_string().map_err(|error| error.of(name))?),
            Kind::Table => {
                let length = rest.length()?;
                takes += headers(rest.take(length)?)?;
            }
        }
    }
    if rest.0.is_empty() { Ok(takes) } else { Err(Unreadable::Malformed) }
}

/// Whether a message with these properties may be left to its queue for dead-lettering.
///
/// RabbitMQ then goes on from the `x-death` that it finds. One that it has not made itself ends the process that dead-letters
/// for all queues of the node, and after a few of them the node declares no queue any more (seen on 3.10.8).
#[must_use]
pub fn may_be_left_to_the_queue(properties: &[u8]) -> bool {
    names_x_death(properties).is_ok_and(|named| !named)
}

/// What of unreadable properties can be read, in wire format: all but `x-death`, or all but the headers.
#[must_use]
pub fn readable_part(properties: &[u8]) -> Option<Vec<u8>> {
    let parts = Parts::of(properties).ok()?;
    let others = parts.headers_but_x_death().ok().map(|headers| parts.with(&headers));
    let readable = |part: &Vec<u8>| look_through(part).is_ok();
    others.filter(readable).or_else(|| Some(parts.without_headers()).filter(readable))
}

/// The flag of the headers; two short strings may stand before them.
const HEADERS: u16 = 0b0010_0000_0000_0000;
const BEFORE_HEADERS: u16 = 0b1100_0000_0000_0000;

/// Properties, taken apart around their headers.
struct Parts<'a> {
    flags: u16,
    before: &'a [u8],
    headers: &'a [u8],
    after: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(properties: &'a [u8]) -> Result<Self, Unreadable> {
        let mut rest = Bytes(properties);
        let flags = u16::from_be_bytes(rest.array()?);
        let all = rest.0;
        for _ in 0..(flags & BEFORE_HEADERS).count_ones() {
            rest.short_bytes()?;
        }
        let before = &all[..all.len() - rest.0.len()];
        let length = if flags & HEADERS == 0 { 0 } else { rest.length()? };
        let headers = rest.take(length)?;
        Ok(Self { flags, before, headers, after: rest.0 })
    }

    fn headers_but_x_death(&self) -> Result<Vec<u8>, Unreadable> {
        let (mut table, mut others) = (Bytes(self.headers), Vec::with_capacity(self.headers.len()));
        while !table.0.is_empty() {
            let all = table.0;
            let name = table.short_bytes()?;
            let [kind] = table.array()?;
            let length = table.length_of(kind)?;
            table.take(length)?;
            if !name.eq_ignore_ascii_case(b"x-death") {
                others.extend(&all[..all.len() - table.0.len()]);
            }
        }
        Ok(others)
    }

    fn with(&self, headers: &[u8]) -> Vec<u8> {
        let length = u32::try_from(headers.len()).unwrap_or(u32::MAX).to_be_bytes();
        [&self.flags.to_be_bytes(), self.before, &length, headers, self.after].concat()
    }

    fn without_headers(&self) -> Vec<u8> {
        [&(self.flags & !HEADERS).to_be_bytes(), self.before, self.after].concat()
    }
}

fn names_x_death(properties: &[u8]) -> Result<bool, Unreadable> {
    let parts = Parts::of(properties)?;
    Ok(parts.headers_but_x_death()?.len() < parts.headers.len())
}

/// A table or an array that is being looked through.
#[derive(Clone, Copy)]
struct Level {
    /// What is left when it ends.
    left: usize,
    named: bool,
}

fn headers(table: &[u8]) -> Result<usize, Unreadable> {
    let mut rest = Bytes(table);
    let mut levels = [Level { left: 0, named: true }; DEEPEST];
    let (mut depth, mut takes) = (1, 0);
    while depth > 0 {
        let level = levels[depth - 1];
        if rest.0.len() == level.left {
            depth -= 1;
            continue;
        }
        if level.named {
            rest.short_string().map_err(|error| error.of("a header's name"))?;
        }
        takes += if level.named { A_NAMED_VALUE } else { A_VALUE };
        let [kind] = rest.array()?;
        let length = rest.length_of(kind)?;
        // Nothing reaches beyond the end of what it stands in.
        let left = rest.0.len().checked_sub(length).filter(|left| *left >= level.left).ok_or(Unreadable::Malformed)?;
        if kind == b'A' || kind == b'F' {
            *levels.get_mut(depth).ok_or(Unreadable::TooDeep { deepest: DEEPEST })? =
                Level { left, named: kind == b'F' };
            depth += 1;
        } else {
            rest.take(length)?;
        }
    }
    Ok(takes)
}

/// Bytes that are read from the front.
pub struct Bytes<'a>(pub &'a [u8]);

/// Why a short string can't be read.
enum BadString {
    Cut,
    NotText,
}

impl BadString {
    fn of(&self, what: &'static str) -> Unreadable {
        match self {
            Self::Cut => Unreadable::Malformed,
            Self::NotText => Unreadable::NotText(what),
        }
    }
}

impl<'a> Bytes<'a> {
    /// The next ones.
    ///
    /// # Errors
    /// There are fewer.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Unreadable::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    /// The next ones, so many as are asked for by the type.
    ///
    /// # Errors
    /// There are fewer.
    pub fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], Unreadable> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Unreadable::Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn length(&mut self) -> Result<usize, Unreadable> {
        usize::try_from(u32::from_be_bytes(self.array()?)).map_err(|_| Unreadable::Malformed)
    }

    /// How many bytes a value of this type has; of some it stands before them.
    fn length_of(&mut self, kind: u8) -> Result<usize, Unreadable> {
        match kind {
            b'V' => Ok(0),
            b't' | b'b' | b'B' => Ok(1),
            b's' | b'U' | b'u' => Ok(2),
            b'I' | b'i' | b'f' => Ok(4),
            b'D' => Ok(5),
            b'l' | b'L' | b'd' | b'T' => Ok(8),
            b'S' | b'x' | b'A' | b'F' => self.length(),
            _ => Err(Unreadable::Malformed),
        }
    }

    /// A byte for the length, and so many bytes, which the library takes for UTF-8 (the broker does not look).
    fn short_string(&mut self) -> Result<&'a str, BadString> {
        let bytes = self.short_bytes().map_err(|_| BadString::Cut)?;
        std::str::from_utf8(bytes).map_err(|_| BadString::NotText)
    }

    /// A byte for the length, and so many bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn short_bytes(&mut self) -> Result<&'a [u8], Unreadable> {
        let [length] = self.array()?;
        self.take(length.into())
    }
}
