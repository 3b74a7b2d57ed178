//! What became of the events: counts of all, and the first few of those that failed.

use std::fmt::Write as _;
use std::time::Duration;

/// Failures that are listed one by one; the memory of a report is bounded by it.
const LISTED: usize = 20;

/// What an event is called in the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) line: Option<u64>,
    pub(super) key: String,
}

impl Tag {
    fn show(&self) -> String {
        let line = self.line.map(|line| format!("line {line}, ")).unwrap_or_default();
        format!("{line}key {}", self.key)
    }
}

/// Counts, and the first failures.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    acked: u64,
    returned: u64,
    refused: u64,
    bad: u64,
    unknown: u64,
    last_key: String,
    last_line: Option<u64>,
    stopped: Option<String>,
    listed: Vec<String>,
}

impl Report {
    /// Events that are in a queue for sure.
    pub(super) fn confirmed(&self) -> u64 {
        // The broker acknowledges also what it has returned.
        self.acked.saturating_sub(self.returned)
    }

    /// The broker has acknowledged an event, or returned it before.
    pub(super) fn ack(&mut self, tag: Tag) {
        self.acked += 1;
        self.last_key = tag.key;
    }

    /// The broker has found no queue for an event. Its acknowledgement is counted by [`Self::ack`], before or after.
    pub(super) fn returned(&mut self, tag: &Tag, why: &str) {
        self.returned += 1;
        self.list(format!("{}: no queue takes it ({why}): returned by the broker", tag.show()));
    }

    /// The broker could not take an event.
    pub(super) fn nack(&mut self, tag: &Tag) {
        self.refused += 1;
        self.list(format!("{}: the broker could not store it (nack)", tag.show()));
    }

    /// A line that is no event.
    pub(super) fn bad(&mut self, line: Option<u64>, reason: &str) {
        self.bad += 1;
        self.list(format!("line {}: {reason}", line.unwrap_or_default()));
    }

    /// No confirm came.
    pub(super) fn unknown(&mut self, tag: &Tag) {
        self.unknown += 1;
        self.list(format!("{}: not confirmed", tag.show()));
    }

    /// The input was read up to this line.
    pub(super) fn read(&mut self, line: Option<u64>) {
        self.last_line = line;
    }

    /// The input was not read to its end. The first reason counts.
    pub(super) fn stopped(&mut self, reason: String) {
        self.stopped.get_or_insert(reason);
    }

    fn list(&mut self, text: String) {
        if self.listed.len() < LISTED {
            self.listed.push(text);
        }
    }

    fn failed(&self) -> u64 {
        self.bad + self.returned + self.refused + self.unknown
    }

    /// Whether every event of the input is confirmed.
    pub(super) fn is_complete(&self) -> bool {
        self.failed() == 0 && self.stopped.is_none()
    }

    /// The failures, one a line.
    pub(super) fn listing(&self) -> Vec<String> {
        let mut lines = self.listed.clone();
        let more = self.failed() - self.listed.len() as u64;
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        if self.unknown > 0 {
            lines.push(
                "What is not confirmed may be published nevertheless. To publish it again under the same key is safe; \
                 without a key of its own it would be a new event."
                    .into(),
            );
        }
        lines
    }

    /// The last line when all went well.
    pub(super) fn success(&self, took: Duration) -> String {
        let count = self.confirmed();
        if self.last_line.is_none() {
            return match count {
                0 => "the input holds no events".into(),
                _ => format!("confirmed: key {}", self.last_key),
            };
        }
        let rate = rate(count, took).map(|rate| format!(" ({rate}/s)")).unwrap_or_default();
        format!("{} confirmed in {:.1} s{rate}", events(count), took.as_secs_f64())
    }

    /// The last line when not all went well.
    pub(super) fn failure(&self) -> String {
        let mut text = format!("{} confirmed, {} not", events(self.confirmed()), self.failed());
        let kinds = [
            (self.bad, "not sent, because the line is no valid event"),
            (self.returned, "returned, because no queue takes them"),
            (self.refused, "refused by the broker"),
            (self.unknown, "without an answer"),
        ];
        let kinds: Vec<_> =
            kinds.iter().filter(|(count, _)| *count > 0).map(|(n, what)| format!("{n} {what}")).collect();
        if !kinds.is_empty() {
            let _ = write!(text, ": {}", kinds.join(", "));
        }
        if let Some(reason) = &self.stopped {
            let after = self.last_line.map(|line| format!(" after line {line}")).unwrap_or_default();
            let _ = write!(text, "; stopped{after}: {reason}");
        }
        text
    }
}

fn events(count: u64) -> String {
    if count == 1 { "1 event".into() } else { format!("{count} events") }
}

/// Events per second; not for so short a time that the number would say nothing.
pub(super) fn rate(count: u64, took: Duration) -> Option<u128> {
    let millis = took.as_millis();
    (millis >= 100).then(|| u128::from(count) * 1_000 / millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(line: u64) -> Tag {
        Tag { line: Some(line), key: format!("k{line}") }
    }

    #[test]
    fn a_complete_report_is_one_line() {
        let mut report = Report::default();
        report.ack(Tag { line: None, key: "order-1".into() });
        assert!(report.is_complete());
        assert_eq!(report.success(Duration::from_millis(10)), "confirmed: key order-1");
        report.read(Some(2));
        report.ack(tag(2));
        assert_eq!(report.success(Duration::from_millis(500)), "2 events confirmed in 0.5 s (4/s)");
    }

    #[test]
    fn an_event_that_was_returned_is_not_confirmed_though_it_is_acknowledged() {
        let mut report = Report::default();
        report.ack(tag(1));
        report.ack(tag(2));
        report.returned(&tag(2), "NO_ROUTE");
        assert_eq!(report.confirmed(), 1);
        assert_eq!(report.failure(), "1 event confirmed, 1 not: 1 returned, because no queue takes them");
        assert_eq!(report.listing(), ["line 2, key k2: no queue takes it (NO_ROUTE): returned by the broker"]);
    }

    #[test]
    fn the_first_failures_are_listed_and_the_others_counted() {
        let mut report = Report::default();
        (1..=30).for_each(|line| report.bad(Some(line), "no"));
        assert_eq!(report.listing().len(), LISTED + 1);
        assert_eq!(report.listing().last().map(String::as_str), Some("and 10 more"));
    }

    #[test]
    fn a_stop_is_told_with_its_place() {
        let mut report = Report::default();
        report.read(Some(7));
        report.stopped("the connection to the broker was lost".into());
        report.stopped("something later".into());
        assert!(!report.is_complete());
        let told = "0 events confirmed, 0 not; stopped after line 7: the connection to the broker was lost";
        assert_eq!(report.failure(), told);
    }
}
