//! What comes over the wire, frame by frame, before the library reads it: passed on as it is, mended, or taken out.
//!
//! No I/O here: bytes in, bytes out.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use super::ahead::{Ahead, Passage, Seen};
use super::properties::{self, Bytes};
use crate::domain::poison::Unreadable;

/// Type, channel and size (AMQP 0-9-1, 4.2.3).
const FRAME_START: usize = 7;
const FRAME_END: u8 = 0xCE;
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
/// The largest method or header that is looked at: what the library itself can hold. Brokers agree on 128 KiB, as a rule.
const LARGEST: usize = 4 * 1024 * 1024;
/// Bytes that are read from the socket at once.
const READ: usize = 64 * 1024;
/// A content header before its properties: class, weight, size of the body.
const CONTENT: usize = 12;

/// The parts of a method's arguments.
#[derive(Clone, Copy)]
enum Part {
    Fixed(usize),
    Text(&'static str),
}

const DELIVER: [Part; 4] =
    [Part::Text("its consumer tag"), Part::Fixed(9), Part::Text(""), Part::Text("its routing key")];
const GET_OK: [Part; 4] = [Part::Fixed(9), Part::Text(""), Part::Text("its routing key"), Part::Fixed(4)];
const RETURN: [Part; 4] = [Part::Fixed(2), Part::Text(""), Part::Text(""), Part::Text("its routing key")];
const CLOSE: [Part; 3] = [Part::Fixed(2), Part::Text(""), Part::Fixed(4)];

/// A message that is under way on a channel.
enum Content {
    /// Its method has come.
    Announced { tag: u64, refused: Option<Unreadable> },
    /// So much of its body is still to come; and whether that is passed on.
    Body { left: u64, passes: bool },
}

/// What is to be done with the bytes that come.
#[derive(Clone, Copy)]
enum Step {
    /// The next frame is to be looked at.
    Look,
    /// So many are passed on.
    Pass(usize),
    /// So many are taken out.
    Skip(usize),
    /// It is not AMQP 0-9-1: the library shall say so.
    PassAll,
}

/// Why no more bytes come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// There is no more room for them.
    Filled,
    /// More have to come in.
    Hungry,
    /// Too much is ahead for a further message.
    Held,
}

/// Looks at each frame before the library does.
pub struct Sieve {
    input: Vec<u8>,
    /// What of the input has not been looked at or passed on.
    unread: Range<usize>,
    /// Frames of ours, which go first.
    ours: Vec<u8>,
    step: Step,
    contents: HashMap<u16, Content>,
}

impl Default for Sieve {
    fn default() -> Self {
        Self { input: vec![0; READ], unread: 0..0, ours: Vec::new(), step: Step::Look, contents: HashMap::new() }
    }
}

impl Sieve {
    /// Room for what comes in; say with [`Self::fill`] how much did.
    pub fn room(&mut self) -> &mut [u8] {
        if self.unread.is_empty() {
            self.unread = 0..0;
        } else if self.unread.end == self.input.len() {
            self.input.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
            if self.unread.end == self.input.len() {
                self.input.resize(2 * self.input.len(), 0);
            }
        }
        &mut self.input[self.unread.end..]
    }

    /// So many bytes have come in.
    pub fn fill(&mut self, bytes: usize) {
        self.unread.end += bytes;
    }

    /// A sign of life, in the broker's name: while it is held up, it can't give one.
    pub fn heartbeat(&mut self) {
        push_frame(&mut self.ours, HEARTBEAT, 0, &[]);
    }

    /// Passes on what may be; gives how much it was, and why it is no more.
    ///
    /// # Errors
    /// A frame that is too large to be looked at.
    pub fn sift(&mut self, out: &mut [u8], ahead: &Ahead) -> io::Result<(usize, Stopped)> {
        let mut filled = 0;
        loop {
            let room = &mut out[filled..];
            if !self.ours.is_empty() {
                let taken = room.len().min(self.ours.len());
                room[..taken].copy_from_slice(&self.ours[..taken]);
                self.ours.drain(..taken);
                filled += taken;
            }
            if filled == out.len() {
                return Ok((filled, Stopped::Filled));
            }
            match self.step {
                Step::Look => {
                    if let Some(stopped) = self.look(ahead)? {
                        return Ok((filled, stopped));
                    }
                }
                _ if self.unread.is_empty() => return Ok((filled, Stopped::Hungry)),
                Step::Pass(left) => {
                    let taken = self.pass(&mut out[filled..], left);
                    filled += taken;
                    self.step = if taken == left { Step::Look } else { Step::Pass(left - taken) };
                }
                Step::PassAll => filled += self.pass(&mut out[filled..], usize::MAX),
                Step::Skip(left) => {
                    let taken = left.min(self.unread.len());
                    self.unread.start += taken;
                    self.step = if taken == left { Step::Look } else { Step::Skip(left - taken) };
                }
            }
        }
    }

    fn pass(&mut self, out: &mut [u8], most: usize) -> usize {
        let taken = out.len().min(most).min(self.unread.len());
        out[..taken].copy_from_slice(&self.input[self.unread.start..][..taken]);
        self.unread.start += taken;
        taken
    }

    /// Looks at the next frame, and decides what is done with it; says why, if it can't.
    fn look(&mut self, ahead: &Ahead) -> io::Result<Option<Stopped>> {
        // A message that has begun is always brought to its end: without it, its consumer could never give back its share.
        if self.contents.is_empty() && ahead.is_full() {
            return Ok(Some(Stopped::Held));
        }
        let bytes = &self.input[self.unread.clone()];
        let Some(&[kind, channel_1, channel_2, ref size @ ..]) = bytes.first_chunk::<FRAME_START>() else {
            let foreign = bytes.first().is_some_and(|kind| ![METHOD, HEADER, BODY, HEARTBEAT].contains(kind));
            if foreign {
                self.step = Step::PassAll;
            }
            return Ok((!foreign).then_some(Stopped::Hungry));
        };
        let channel = u16::from_be_bytes([channel_1, channel_2]);
        let size = usize::try_from(u32::from_be_bytes(*size)).unwrap_or(usize::MAX);
        let frame = FRAME_START + size + 1;
        self.step = match kind {
            METHOD | HEADER => {
                if frame > LARGEST {
                    let error = format!("the broker sent a frame of {size} bytes");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
                let Some(whole) = bytes.get(FRAME_START..frame) else { return Ok(Some(Stopped::Hungry)) };
                let payload = &whole[..size];
                let mended = match kind {
                    METHOD => method(&mut self.contents, ahead, channel, payload),
                    _ => header(&mut self.contents, ahead, channel, payload),
                };
                match mended {
                    None => Step::Pass(frame),
                    Some(payload) => {
                        push_frame(&mut self.ours, kind, channel, &payload);
                        Step::Skip(frame)
                    }
                }
            }
            BODY if !self.passes(channel, size) => Step::Skip(frame),
            BODY | HEARTBEAT => Step::Pass(frame),
            _ => Step::PassAll,
        };
        Ok(None)
    }

    /// Counts a part of a body; whether it is passed on.
    fn passes(&mut self, channel: u16, size: usize) -> bool {
        let Some(Content::Body { left, passes }) = self.contents.get_mut(&channel) else { return true };
        let passes = *passes;
        *left = left.saturating_sub(size as u64);
        if *left == 0 {
            self.contents.remove(&channel);
        }
        passes
    }
}

/// A method: one that announces a message is noted. Gives what stands in its place, if it has to be mended.
fn method(contents: &mut HashMap<u16, Content>, ahead: &Ahead, channel: u16, payload: &[u8]) -> Option<Vec<u8>> {
    let (id, arguments) = payload.split_first_chunk::<4>()?;
    let (class, method) = (u16::from_be_bytes([id[0], id[1]]), u16::from_be_bytes([id[2], id[3]]));
    let parts: &[Part] = match (class, method) {
        (60, 60) => &DELIVER,
        (60, 71) => &GET_OK,
        (60, 50) => &RETURN,
        (10, 50) => &CLOSE,
        (20, 40 | 41) => {
            contents.remove(&channel);
            ahead.closed(channel);
            if method == 41 {
                return None;
            }
            &CLOSE
        }
        _ => return None,
    };
    // Cut short: the library shall say so.
    let (mended, refused) = mend(arguments, parts).ok()?;
    if class == 60 {
        let tag = if method == 50 { 0 } else { tag(arguments, parts).unwrap_or_default() };
        contents.insert(channel, Content::Announced { tag, refused });
    }
    mended.map(|arguments| [id, arguments.as_slice()].concat())
}

/// The delivery's number is the first thing of a fixed size.
fn tag(arguments: &[u8], parts: &[Part]) -> Result<u64, Unreadable> {
    let mut rest = Bytes(arguments);
    for part in parts {
        match part {
            Part::Text(_) => drop(rest.short_bytes()?),
            Part::Fixed(_) => return Ok(u64::from_be_bytes(rest.array()?)),
        }
    }
    Err(Unreadable::Malformed)
}

/// The same arguments with all their short strings in UTF-8, unless they are; and whether one that matters is not.
fn mend(arguments: &[u8], parts: &[Part]) -> Result<(Option<Vec<u8>>, Option<Unreadable>), Unreadable> {
    let (mut rest, mut mended) = (Bytes(arguments), Vec::with_capacity(arguments.len()));
    let (mut same, mut refused) = (true, None);
    for part in parts {
        match *part {
            Part::Fixed(length) => mended.extend(rest.take(length)?),
            Part::Text(name) => {
                let bytes = rest.short_bytes()?;
                let text = String::from_utf8_lossy(bytes);
                if text.as_bytes() != bytes {
                    same = false;
                    refused = refused.or((!name.is_empty()).then_some(Unreadable::NotText(name)));
                }
                let fits = text.floor_char_boundary(usize::from(u8::MAX));
                mended.push(u8::try_from(fits).unwrap_or(u8::MAX));
                mended.extend(&text.as_bytes()[..fits]);
            }
        }
    }
    mended.extend(rest.0);
    Ok(((!same).then_some(mended), refused))
}

/// A content header: the message is counted. Gives what stands in its place, if the message can't be read.
fn header(contents: &mut HashMap<u16, Content>, ahead: &Ahead, channel: u16, payload: &[u8]) -> Option<Vec<u8>> {
    let (content, properties) = payload.split_first_chunk::<CONTENT>()?;
    let Some(Content::Announced { tag, refused }) = contents.remove(&channel) else { return None };
    let body = u64::from_be_bytes(*content.last_chunk()?);
    let (takes, unreadable) = match properties::look_through(properties) {
        Ok(takes) => (takes, None),
        Err(unreadable) => (0, Some(unreadable)),
    };
    let refused = refused.or(unreadable);
    let passage = ahead.count(channel, &Seen { tag, properties, takes, body, refused });
    if body > 0 {
        contents.insert(channel, Content::Body { left: body, passes: passage != Passage::Nothing });
    }
    match passage {
        Passage::Whole => None,
        // No properties.
        Passage::Body => Some([&content[..], &[0; 2]].concat()),
        // The class as it was, no body, no properties.
        Passage::Nothing => Some([&content[..2], &[0; 10], &[0; 2]].concat()),
    }
}

fn push_frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) {
    out.push(kind);
    out.extend(channel.to_be_bytes());
    out.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(payload);
    out.push(FRAME_END);
}
