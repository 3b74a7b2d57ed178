//! What is wrong in a file, and where.

use std::fmt;

/// The most complaints about one file.
const MOST: usize = 20;

/// One thing that is wrong.
#[derive(Debug)]
pub(in crate::config) struct Complaint {
    /// Where: a byte of the text.
    pub(in crate::config) at: usize,
    /// What, and what to write instead.
    pub(in crate::config) what: String,
}

/// Everything that is wrong.
#[derive(Debug, Default)]
pub(in crate::config) struct Complaints(Vec<Complaint>);

impl FromIterator<Complaint> for Complaints {
    fn from_iter<I: IntoIterator<Item = Complaint>>(complaints: I) -> Self {
        Self(complaints.into_iter().collect())
    }
}

impl Complaints {
    pub(in crate::config) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, at: usize, what: impl Into<String>) {
        self.0.push(Complaint { at, what: what.into() });
    }

    /// Takes what went well, and notes what did not.
    pub(in crate::config) fn note<T>(&mut self, read: Result<T, Complaint>) -> Option<T> {
        read.map_err(|complaint| self.0.push(complaint)).ok()
    }

    /// In the order of the file.
    pub(in crate::config) fn refuse(mut self, file: &str, lines: &Lines<'_>) -> Refused {
        self.0.sort_by_key(|complaint| complaint.at);
        let more = self.0.len().saturating_sub(MOST);
        let show = |complaint: &Complaint| {
            let (line, column) = lines.position(complaint.at);
            one_line(&format!("{file}:{line}:{column}: {}", complaint.what))
        };
        Refused { lines: self.0.iter().take(MOST).map(show).collect(), more }
    }
}

/// Where the lines of a text begin.
pub(in crate::config) struct Lines<'a> {
    text: &'a str,
    begin: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(in crate::config) fn new(text: &'a str) -> Self {
        let begin = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { text, begin }
    }

    /// Line and column, from 1; columns are characters, as editors count them.
    pub(in crate::config) fn position(&self, at: usize) -> (usize, usize) {
        let line = self.begin.partition_point(|begin| *begin <= at);
        let begin = self.begin.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let column = self.text.get(begin..at).map_or(0, |before| before.chars().count()) + 1;
        (line, column)
    }
}

/// In one line, and without what may be a secret in the wrong place.
pub(in crate::config) fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    let is_between = |letter: char| letter == ' ' || "\"'`,".contains(letter);
    let words = line.split_inclusive(is_between).map(|word| {
        let end = word.len() - word.chars().next_back().filter(|last| is_between(*last)).map_or(0, char::len_utf8);
        hide(&word[..end]) + &word[end..]
    });
    words.collect()
}

/// Hides what follows the beginning of a signing secret, and user and password of a URL.
fn hide(word: &str) -> String {
    for prefix in ["whsec_", "whsk_"] {
        let Some((before, secret)) = word.split_once(prefix) else { continue };
        let rest = secret.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric() || "+/=_-".contains(letter));
        if rest != secret {
            return format!("{before}{prefix}…{rest}");
        }
    }
    match word.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
        Some((scheme, (_, rest))) => format!("{scheme}://…@{rest}"),
        None => word.to_owned(),
    }
}

/// Why a file is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    lines: Vec<String>,
    more: usize,
}

impl Refused {
    /// The file as a whole is of no use.
    pub(in crate::config) fn whole(file: &str, what: &str) -> Self {
        Self { lines: vec![one_line(&format!("{file}: {what}"))], more: 0 }
    }

    /// Each complaint in one line, in the order of the file, and how many more there are.
    #[must_use]
    pub fn complaints(&self) -> (&[String], usize) {
        (&self.lines, self.more)
    }
}

/// The first complaint, in one line.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.lines.first() else { return Ok(()) };
        f.write_str(first)?;
        match self.lines.len() - 1 + self.more {
            0 => Ok(()),
            more => write!(f, " (and {more} more: `onceward destinations check` lists them)"),
        }
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_in_a_wrong_place_is_not_repeated() {
        let table = [
            ("\"whsec_VE9Q+/==\" is no name of a variable", "\"whsec_…\" is no name of a variable"),
            ("a/whsk_abc: No such file", "a/whsk_…: No such file"),
            ("write `whsec_` and Base64 behind it", "write `whsec_` and Base64 behind it"),
            ("echo whsec_$(openssl rand -base64 32)", "echo whsec_$(openssl rand -base64 32)"),
            ("[hosts.\"http://u:p@ss@x/\"]: no host", "[hosts.\"http://…@x/\"]: no host"),
            ("two\nlines, http://x/", "two lines, http://x/"),
        ];
        for (text, shown) in table {
            assert_eq!(one_line(text), shown);
        }
    }
}
