//! Where events come from: one from the flags, or many from a stream of lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use super::event::Outgoing;
use super::line::{self, Defaults};
use super::{PublishArgs, PublishError};

/// The longest line. A larger body comes by --body-file.
const MAX_LINE_BYTES: usize = 8 * 1_048_576;
/// The largest body of a worker's --body-limit.
const MAX_BODY_BYTES: u64 = 134_217_728;
/// Lines that are read ahead: few, because each may be long.
const READ_AHEAD: usize = 16;

/// Something that was read.
#[derive(Debug)]
pub(super) struct Item {
    /// The number of its line, from 1.
    pub(super) line: Option<u64>,
    /// Bytes of the input up to its end.
    pub(super) offset: u64,
    pub(super) what: Piece,
}

/// What a piece of the input turned out to be.
#[derive(Debug)]
pub(super) enum Piece {
    Event(Box<Outgoing>),
    Bad(String),
    /// The input cannot be read any further.
    Broken(String),
}

/// An input that is open.
pub(super) enum Source {
    One(Box<Outgoing>),
    Lines { reader: Box<dyn BufRead + Send>, bytes: Option<u64>, defaults: Defaults, name: String },
}

/// Opens the input, and checks the one event of the flags.
pub(super) fn open(args: &PublishArgs) -> Result<Source, PublishError> {
    if let Some(path) = &args.ndjson {
        let (reader, bytes) = open_file(path)?;
        let reader = Box::new(BufReader::with_capacity(65_536, reader));
        return Ok(Source::Lines { reader, bytes, defaults: Defaults::of(args), name: name_of(path) });
    }
    let event = Outgoing {
        entity: args.entity.clone().unwrap_or_default(),
        origin: args.origin.clone(),
        key: args.key.clone().unwrap_or_else(line::fresh_key),
        destination: args.destination.clone(),
        sequence: args.sequence,
        headers: args.headers.iter().cloned().collect(),
        content_type: args.content_type.clone().unwrap_or("application/json".into()),
        traceparent: args.traceparent.clone(),
        body: body_of(args)?,
    };
    event.check(!args.no_check).map_err(|reason| PublishError::NotAll(format!("not published: {reason}")))?;
    Ok(Source::One(Box::new(event)))
}

fn body_of(args: &PublishArgs) -> Result<Bytes, PublishError> {
    let Some(path) = &args.body_file else { return Ok(args.body.clone().unwrap_or_default().into()) };
    let mut body = Vec::new();
    let (reader, _) = open_file(path)?;
    let read = reader.take(MAX_BODY_BYTES + 1).read_to_end(&mut body);
    let count = read.map_err(|error| PublishError::Input(format!("{}: {error}", name_of(path))))?;
    if count as u64 > MAX_BODY_BYTES {
        return Err(PublishError::Input(format!("{}: a body has at most {MAX_BODY_BYTES} bytes", name_of(path))));
    }
    Ok(body.into())
}

type Opened = (Box<dyn Read + Send>, Option<u64>);

/// With the number of its bytes, where that is known.
fn open_file(path: &Path) -> Result<Opened, PublishError> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin()), None));
    }
    let failed = |error| PublishError::Input(format!("{}: {error}", path.display()));
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    Ok((Box::new(file), metadata.is_file().then_some(metadata.len())))
}

fn name_of(path: &Path) -> String {
    if path == Path::new("-") { "standard input".into() } else { path.display().to_string() }
}

impl Source {
    /// On standard error, and hidden where that is no terminal.
    pub(super) fn progress_bar(&self) -> ProgressBar {
        let (bar, template) = match self {
            Self::One(_) => return ProgressBar::hidden(),
            Self::Lines { bytes: Some(bytes), .. } => {
                (ProgressBar::new(*bytes), "{bar:32} {percent:>3} %  {msg}  {elapsed} (about {eta} left)")
            }
            Self::Lines { bytes: None, .. } => (ProgressBar::no_length(), "{spinner} {msg}  {elapsed}"),
        };
        bar.with_style(ProgressStyle::with_template(template).unwrap_or(ProgressStyle::default_bar()))
    }

    /// Starts reading. In a thread of its own: a read of a terminal or a pipe cannot be interrupted, and must not hold
    /// up the end of the program, as a blocking task of the runtime would.
    pub(super) fn start(self) -> mpsc::Receiver<Item> {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        match self {
            Self::One(event) => {
                let _ = sender.try_send(Item { line: None, offset: 0, what: Piece::Event(event) });
            }
            Self::Lines { mut reader, defaults, name, .. } => {
                std::thread::spawn(move || feed(&mut reader, &defaults, &name, &sender));
            }
        }
        receiver
    }
}

/// Sends every line that is not blank, until the input ends or nobody listens any more.
fn feed(reader: &mut impl BufRead, defaults: &Defaults, name: &str, sender: &mpsc::Sender<Item>) {
    let (mut buffer, mut number, mut offset) = (Vec::new(), 0, 0);
    loop {
        number += 1;
        let what = match next_line(reader, &mut buffer, MAX_LINE_BYTES) {
            Ok(0) => return,
            Ok(bytes) => {
                offset += bytes;
                match buffer.trim_ascii() {
                    [] => continue,
                    _ if buffer.len() > MAX_LINE_BYTES => {
                        Piece::Bad(format!("the line has {bytes} bytes; the limit is {MAX_LINE_BYTES}"))
                    }
                    text => match line::read(text, defaults) {
                        Ok(event) => Piece::Event(Box::new(event)),
                        Err(reason) => Piece::Bad(reason),
                    },
                }
            }
            Err(error) => Piece::Broken(format!("cannot read {name} further: {error}")),
        };
        let broken = matches!(what, Piece::Broken(_));
        if sender.blocking_send(Item { line: Some(number), offset, what }).is_err() || broken {
            return;
        }
    }
}

/// Reads a line into `buffer`, but not more than `limit` and one byte of it; the rest is skipped. The answer is how many
/// bytes the line has, 0 at the end of the input.
fn next_line(reader: &mut impl BufRead, buffer: &mut Vec<u8>, limit: usize) -> io::Result<u64> {
    buffer.clear();
    let mut bytes = reader.by_ref().take(limit as u64 + 1).read_until(b'\n', buffer)? as u64;
    if buffer.last() == Some(&b'\n') {
        buffer.pop();
    } else if buffer.len() > limit {
        bytes += reader.skip_until(b'\n')? as u64;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed_text(text: &str) -> Vec<Item> {
        let (sender, mut receiver) = mpsc::channel(100);
        let defaults = Defaults { destination: Some("http://h/".into()), strict: true, ..Defaults::default() };
        feed(&mut text.as_bytes(), &defaults, "the test", &sender);
        drop(sender);
        std::iter::from_fn(|| receiver.blocking_recv()).collect()
    }

    #[test]
    fn blank_lines_are_skipped_but_counted_and_a_bad_line_stops_nothing() {
        let text = "{\"entity\":\"a\",\"body\":1}\r\n\n  \nnonsense\n{\"entity\":\"b\",\"body\":2}";
        let items = feed_text(text);
        let seen: Vec<_> = items.iter().map(|item| (item.line, matches!(item.what, Piece::Event(_)))).collect();
        assert_eq!(seen, [(Some(1), true), (Some(4), false), (Some(5), true)]);
        assert_eq!(items[2].offset, text.len() as u64);
    }

    #[test]
    fn a_line_over_the_limit_is_skipped_to_its_end() {
        let mut reader = &b"12345\n123456\n1234567890\nend"[..];
        let mut buffer = Vec::new();
        let mut seen = Vec::new();
        while let Ok(bytes @ 1..) = next_line(&mut reader, &mut buffer, 5) {
            seen.push((bytes, buffer.len()));
        }
        assert_eq!(seen, [(6, 5), (7, 6), (11, 6), (3, 3)]);
    }
}
