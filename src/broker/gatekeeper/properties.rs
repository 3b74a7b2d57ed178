//! A look at a message's properties in wire format, before the library reads them: flat, in one pass, without recursion.

use crate::domain::poison::Unreadable;

/// Tables and arrays in one another that are read. The library's reader calls itself for each level, and so does whatever
/// looks at the value afterwards; `x-death`, the deepest that a broker makes, has three.
const DEEPEST: usize = 16;

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

/// Looks through the properties; gives the number of values in the headers: each takes far more memory than bytes.
///
/// # Errors
/// What the library can't read, or should not.
pub fn look_through(properties: &[u8]) -> Result<usize, Unreadable> {
    let mut rest = Bytes(properties);
    let flags = u16::from_be_bytes(rest.array()?);
    let mut values = 0;
    for (at, (name, kind)) in PROPERTIES.into_iter().enumerate() {
        if flags & (1 << (15 - at)) == 0 {
            continue;
        }
        match kind {
            Kind::Fixed(length) => drop(rest.take(length)?),
            Kind::ShortString => drop(rest.short_string().map_err(|error| error.of(name))?),
            Kind::Table => {
                let length = rest.length()?;
                values = headers(rest.take(length)?)?;
            }
        }
    }
    if rest.0.is_empty() { Ok(values) } else { Err(Unreadable::Malformed) }
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
    let (mut depth, mut values) = (1, 0);
    while depth > 0 {
        let level = levels[depth - 1];
        if rest.0.len() == level.left {
            depth -= 1;
            continue;
        }
        if level.named {
            rest.short_string().map_err(|error| error.of("a header's name"))?;
        }
        values += 1;
        let [kind] = rest.array()?;
        let length = match kind {
            b'V' => 0,
            b't' | b'b' | b'B' => 1,
            b's' | b'U' | b'u' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'l' | b'L' | b'd' | b'T' => 8,
            b'S' | b'x' | b'A' | b'F' => rest.length()?,
            _ => return Err(Unreadable::Malformed),
        };
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
    Ok(values)
}

/// Bytes that are read from the front.
pub struct Bytes<'a>(pub &'a [u8]);

/// Why a short string can't be read.
pub enum BadString {
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
