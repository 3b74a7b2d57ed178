//! lapin's errors, in words for people.

use lapin::ErrorKind;

use crate::config::tls;

/// The broker's reply code, if it is the broker that complains.
pub(super) fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// What went wrong, without the jargon of the library.
pub(super) fn describe(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::IOError(error) => tls::explain(error).unwrap_or_else(|| error.to_string()),
        ErrorKind::ProtocolError(error) => error.get_message().to_string(),
        _ => error.to_string(),
    }
}

/// Why publishing cannot go on, if the error tells more than that it cannot.
pub(super) fn specific(error: &lapin::Error) -> Option<String> {
    match error.kind() {
        ErrorKind::IOError(_) => Some(format!("the connection to the broker was lost ({})", describe(error))),
        ErrorKind::ProtocolError(_) => Some(format!("the broker ended it ({})", describe(error))),
        _ => None,
    }
}
