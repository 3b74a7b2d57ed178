//! What a worker of the run's own says: into the file of `--worker-log`, if there is one; and its last words are kept.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// The longest line that is kept or written whole, in bytes.
const LONGEST: u64 = 64 * 1024;
/// What a line begins with that says why a program ends.
const REASON: &str = "onceward: ";

/// What a worker said last, read by a thread until the worker's end.
pub(super) struct LastWords {
    said: Arc<Mutex<Said>>,
    reading: JoinHandle<()>,
}

#[derive(Default)]
struct Said {
    reason: Option<String>,
    line: Option<String>,
}

impl LastWords {
    /// Reads what a worker says.
    pub(super) fn of(pipe: impl Read + Send + 'static, log: Option<File>) -> Self {
        let said = Arc::<Mutex<Said>>::default();
        let noting = Arc::clone(&said);
        Self { said, reading: thread::spawn(move || read(pipe, log, &noting)) }
    }

    /// Why a worker ended that has ended: the last line that says so, or else its last one.
    pub(super) fn end(self) -> Option<String> {
        // Nothing more comes from a worker that has ended.
        let _ = self.reading.join();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.reason.take().or(said.line.take())
    }
}

fn read(pipe: impl Read, mut log: Option<File>, said: &Mutex<Said>) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    // It is read on whatever becomes of the log: a worker is not to wait for its reader.
    while (&mut pipe).take(LONGEST).read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        if let Some(log) = &mut log {
            let _ = log.write_all(&line);
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = text.strip_prefix(REASON) {
            said.reason = Some(reason.to_owned());
        }
        said.line = Some(text);
        drop(said);
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_an_end_is_kept_or_else_the_last_line() {
        let last = |said: &'static str| LastWords::of(said.as_bytes(), None).end();
        assert_eq!(last("one\nonceward: no broker\n   0: a backtrace\n").as_deref(), Some("no broker"));
        assert_eq!(last("one\ntwo").as_deref(), Some("two"));
        assert_eq!(last(""), None);
    }
}
