//! The log's lines on their way out. A thread of their own writes them: whoever reads the log, or does not, holds up
//! nobody else.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Lines that wait for their reader: a few seconds of a busy log.
const MOST_LINES: usize = 8_192;
/// Bytes of all lines that wait.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// A terminal or pipe that somebody has set not to block is tried again after this time.
const BUSY: Duration = Duration::from_millis(10);

/// Lines that wait to be written, bounded in number and in bytes. What is over goes, and is counted: the oldest lines, so
/// that the last ones before an end are there.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    /// Dropped lines that the log doesn't tell of yet.
    untold: u64,
    closed: bool,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line. Never waits for the writer.
    pub(super) fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        let before = waiting.untold;
        if line.len() > MOST_BYTES || waiting.closed {
            waiting.untold += 1;
        } else {
            waiting.bytes += line.len();
            waiting.lines.push_back(line.into());
        }
        while waiting.lines.len() > MOST_LINES || waiting.bytes > MOST_BYTES {
            let oldest = waiting.lines.pop_front().unwrap_or_default();
            waiting.bytes -= oldest.len();
            waiting.untold += 1;
        }
        self.dropped.fetch_add(waiting.untold - before, Ordering::Relaxed);
        drop(waiting);
        self.changed.notify_one();
    }

    /// Lines that were dropped so far.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// No line comes any more: the writer ends when it has written what waits.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    /// The next line, and how many were dropped in front of it. Waits for one, until there are no more.
    fn next(&self) -> Option<(u64, Box<[u8]>)> {
        let waiting = self.lock();
        let idle = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.closed;
        let mut waiting = self.changed.wait_while(waiting, idle).unwrap_or_else(PoisonError::into_inner);
        let line = waiting.lines.pop_front()?;
        waiting.bytes -= line.len();
        Some((std::mem::take(&mut waiting.untold), line))
    }

    /// Writes each line as it comes, until the queue is closed. `told` makes the line that says how many were dropped.
    pub(super) fn write_to(&self, mut out: impl Write, told: impl Fn(u64) -> String) {
        while let Some((lost, line)) = self.next() {
            // In one piece, so that other processes' lines don't come in between.
            let text = if lost > 0 { [told(lost).as_bytes(), &line].concat() } else { line.into() };
            if write(&mut out, &text).is_err() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                self.lock().untold += lost + 1;
            }
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the thread that writes the log has no task")]
fn write(out: &mut impl Write, mut text: &[u8]) -> io::Result<()> {
    while !text.is_empty() {
        match out.write(text) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => text = &text[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(BUSY),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written until the queue is closed.
    fn written(queue: &Queue) -> String {
        queue.close();
        let mut out = Vec::new();
        queue.write_to(&mut out, |lost| format!("{lost} lost\n"));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn lines_come_out_in_their_order() {
        let queue = Queue::default();
        (1..=3).for_each(|n| queue.push(format!("line {n}\n").as_bytes()));
        assert_eq!((written(&queue).as_str(), queue.dropped()), ("line 1\nline 2\nline 3\n", 0));
    }

    #[test]
    fn beyond_the_most_lines_the_oldest_go_and_are_told_where_they_were() {
        let queue = Queue::default();
        (0..MOST_LINES + 5).for_each(|n| queue.push(format!("line {n}\n").as_bytes()));
        let text = written(&queue);
        assert!(text.starts_with("5 lost\nline 5\n") && text.ends_with(&format!("line {}\n", MOST_LINES + 4)));
        assert_eq!((text.lines().count(), queue.dropped()), (MOST_LINES + 1, 5));
    }

    #[test]
    fn beyond_the_most_bytes_too() {
        let queue = Queue::default();
        let line = vec![b'x'; MOST_BYTES / 4];
        (0..7).for_each(|_| queue.push(&line));
        assert_eq!(queue.lock().bytes, MOST_BYTES);
        queue.push(&vec![b'y'; MOST_BYTES + 1]);
        assert_eq!(queue.dropped(), 4, "a line that can't ever fit takes nobody's place");
        assert_eq!(written(&queue).len(), MOST_BYTES + "4 lost\n".len());
    }

    /// Refuses as often as it is told to, and takes a few bytes at a time.
    struct Rough {
        refusals: Vec<ErrorKind>,
        taken: Vec<u8>,
    }

    impl Write for Rough {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            if let Some(refusal) = self.refusals.pop() {
                return Err(refusal.into());
            }
            let taken = &text[..text.len().min(3)];
            self.taken.extend_from_slice(taken);
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_is_refused_is_told_with_the_next_one() {
        let queue = Queue::default();
        (1..=3).for_each(|n| queue.push(format!("line {n}\n").as_bytes()));
        queue.close();
        let refusals =
            vec![ErrorKind::WouldBlock, ErrorKind::Interrupted, ErrorKind::BrokenPipe, ErrorKind::BrokenPipe];
        let mut out = Rough { refusals, taken: Vec::new() };
        queue.write_to(&mut out, |lost| format!("{lost} lost\n"));
        assert_eq!((out.taken.as_slice(), queue.dropped()), (b"2 lost\nline 3\n".as_slice(), 2));
    }

    #[test]
    fn a_writer_that_stands_still_holds_up_nobody() {
        /// Says that it is given something, and takes it when somebody lets it.
        struct Stuck {
            given: std::sync::mpsc::Sender<()>,
            wait: std::sync::mpsc::Receiver<()>,
            taken: Vec<u8>,
        }
        impl Write for Stuck {
            fn write(&mut self, text: &[u8]) -> io::Result<usize> {
                let _ = self.given.send(());
                let _ = self.wait.recv();
                self.taken.extend_from_slice(text);
                Ok(text.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let queue = std::sync::Arc::new(Queue::default());
        let (go_on, wait) = std::sync::mpsc::channel();
        let (given, is_given) = std::sync::mpsc::channel();
        let writer = {
            let queue = queue.clone();
            thread::spawn(move || {
                let mut out = Stuck { given, wait, taken: Vec::new() };
                queue.write_to(&mut out, |lost| format!("{lost} lost\n"));
                out.taken
            })
        };
        // The writer stands still from here on: what is dropped later is told as one.
        queue.push(b"line 0\n");
        is_given.recv().expect("a line is written");
        (1..3 * MOST_LINES).for_each(|n| queue.push(format!("line {n}\n").as_bytes()));
        assert_eq!(queue.dropped(), 2 * MOST_LINES as u64 - 1);
        drop(go_on);
        queue.close();
        let text = String::from_utf8(writer.join().expect("a writer that ends")).expect("text");
        assert!(text.contains(&format!("{} lost\n", queue.dropped())), "{} dropped", queue.dropped());
        assert!(text.ends_with(&format!("line {}\n", 3 * MOST_LINES - 1)));
    }
}
