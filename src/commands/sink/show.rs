//! What is written to standard output.

use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;

use crate::commands::output::{self, OutputError};

/// The part of a body that is shown, in characters.
const SHOWN: usize = 60;
/// The part of a body that is kept to be shown: characters have up to four bytes.
pub(super) const KEPT: usize = 4 * SHOWN + 4;

/// Standard output, until nobody reads it any more.
pub(super) struct Show {
    stop: CancellationToken,
    failed: Mutex<Option<OutputError>>,
}

impl Show {
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { stop, failed: Mutex::default() }
    }

    /// Writes a line at once. If that is no longer possible, as with `| head`, the program is asked to stop.
    pub(super) fn line(&self, text: &str) {
        if let Err(error) = output::line(text) {
            self.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            self.stop.cancel();
        }
    }

    /// Whether all lines were written.
    pub(super) fn written(&self) -> Result<(), OutputError> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
    }
}

/// What is shown of a request.
pub(super) struct Row<'a> {
    pub(super) time: SystemTime,
    pub(super) entity: &'a str,
    pub(super) sequence: &'a str,
    pub(super) key: &'a str,
    pub(super) attempt: u32,
    pub(super) answer: &'a str,
    pub(super) body: &'a [u8],
}

impl Row<'_> {
    pub(super) fn render(&self) -> String {
        let sequence = if self.sequence.is_empty() { String::new() } else { format!("#{}", printable(self.sequence)) };
        let (entity, key, body) = (printable(self.entity), printable(self.key), preview(self.body));
        let time = time_of_day(self.time);
        let (attempt, answer) = (self.attempt, self.answer);
        format!("{time}  {entity:<12} {sequence:>5}  {key:<36}  attempt {attempt:<2} → {answer:<9}  {body}")
            .trim_end()
            .into()
    }
}

/// The names of the columns.
pub(super) fn heading() -> String {
    format!(
        "{:<12}  {:<12} {:>5}  {:<36}  {:<10} → {:<9}  body",
        "time (UTC)", "entity", "seq", "key", "attempt", "answer"
    )
}

/// HH:MM:SS.mmm
pub(super) fn time_of_day(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}.{:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60, since.subsec_millis())
}

/// The beginning of a body, on one line.
fn preview(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut shown: String = printable(text.trim_ascii()).chars().take(SHOWN).collect();
    if text.trim_ascii().chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// Strangers write the text: it must not move the cursor of somebody's terminal.
fn printable(text: &str) -> String {
    let harmless = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() => '·',
        c => c,
    };
    text.chars().map(harmless).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_row_is_aligned_under_the_heading() {
        let row = Row {
            time: UNIX_EPOCH + Duration::from_millis(86_400_000 * 3 + 3_723_004),
            entity: "user-1",
            sequence: "12",
            key: "order-1",
            attempt: 2,
            answer: "503",
            body: b"{\"a\":1}\n",
        };
        let (row, heading) = (row.render(), heading());
        assert!(row.starts_with("01:02:03.004  user-1         #12  order-1 "), "{row}");
        let column = |text: &str, part: &str| text.find(part).map(|at| text[..at].chars().count());
        assert_eq!(column(&row, "→"), column(&heading, "→"));
        assert_eq!(column(&row, "{\"a\""), column(&heading, "body"));
        assert!(row.ends_with("{\"a\":1}"), "{row}");
    }

    #[test]
    fn a_body_is_cut_and_cannot_steer_the_terminal() {
        assert_eq!(preview("é".repeat(70).as_bytes()), format!("{}…", "é".repeat(60)));
        assert_eq!(preview(b"a\x1b[2Jb\nc"), "a·[2Jb c");
        assert_eq!(preview(b"\xff\xfe"), "\u{fffd}\u{fffd}");
    }
}
