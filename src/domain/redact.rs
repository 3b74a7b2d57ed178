//! URLs as traces, logs and dead letters may show them.

use url::Url;

const REDACTED: &str = "REDACTED";

/// A URL without credentials, query and fragment: the semantic conventions ask that `url.full` shows no secrets, and which
/// part of a query is one is not known.
#[must_use]
pub fn url(url: &Url) -> String {
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

/// The longest text that is shown of what is no URL, in bytes.
const LONGEST: usize = 200;

/// What was to be a URL and is none: its beginning, without what may be credentials, a query or a fragment.
#[must_use]
pub fn text(text: &str) -> String {
    let end = text.find(['?', '#']).unwrap_or(text.len());
    let shown = match text.rsplit_once('@') {
        Some((before, after)) => {
            let scheme = scheme_of(before);
            // The mark of a query may as well be part of a password, up to an @ behind it.
            if before.len() < end {
                format!("{scheme}{REDACTED}@{}", &after[..end - before.len() - 1])
            } else {
                format!("{scheme}{REDACTED}")
            }
        }
        None => text[..end].to_owned(),
    };
    let mut cut = shown.len().min(LONGEST);
    while !shown.is_char_boundary(cut) {
        cut -= 1;
    }
    let is_whole = cut == shown.len() && end == text.len();
    if is_whole { shown } else { format!("{}…", &shown[..cut]) }
}

/// Up to `://`, if that follows a scheme: it may as well be part of a password.
fn scheme_of(text: &str) -> &str {
    let end = text.find("://").filter(|end| text[..*end].bytes().all(|byte| byte.is_ascii_alphanumeric()));
    &text[..end.map_or(0, |end| end + 3)]
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

    #[test]
    fn nor_of_what_is_no_url() {
        let table = [
            ("/orders", "/orders"),
            ("ftp://ada:secret@host/a?b=c", "ftp://REDACTED@host/a…"),
            ("ada:secret@host", "REDACTED@host"),
            ("ftp://ada:sec?ret@host/a", "ftp://REDACTED…"),
            ("ftp://ada:sec#ret@host?a", "ftp://REDACTED…"),
            ("ada:sec://ret@host/a?b", "REDACTED@host/a…"),
            ("http://a b/?token=secret", "http://a b/…"),
            ("", ""),
        ];
        for (full, shown) in table {
            assert_eq!(text(full), shown);
        }
        assert_eq!(text(&"é".repeat(300)), format!("{}…", "é".repeat(100)));
    }
}
