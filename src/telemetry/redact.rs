//! URLs as traces may show them.

use url::Url;

const REDACTED: &str = "REDACTED";

/// A URL without credentials, query and fragment: the semantic conventions ask that `url.full` shows no secrets, and which
/// part of a query is one is not known.
pub(super) fn url(url: &Url) -> String {
    let mut shown = url.clone();
    if !shown.username().is_empty() || shown.password().is_some() {
        // Both fail only for URLs without a host, which have no credentials.
        let _ = shown.set_username(REDACTED);
        let _ = shown.set_password(Some(REDACTED));
    }
    if url.query().is_some() {
        shown.set_query(Some(REDACTED));
    }
    shown.set_fragment(None);
    shown.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let table = [
            ("https://example.com/hooks", "https://example.com/hooks"),
            ("https://ada:secret@example.com/", "https://REDACTED:REDACTED@example.com/"),
            ("http://token@example.com:81/", "http://REDACTED:REDACTED@example.com:81/"),
            ("http://example.com/?sig=abc&user=7#top", "http://example.com/?REDACTED"),
            ("http://example.com/?secret", "http://example.com/?REDACTED"),
        ];
        for (full, shown) in table {
            assert_eq!(url(&full.parse().unwrap()), shown);
        }
    }
}
