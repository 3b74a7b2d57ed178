//! Hosts as metrics name them: a bounded number of names.

use std::collections::HashSet;
use std::sync::{LazyLock, PoisonError, RwLock};

use opentelemetry::{KeyValue, StringValue};

use crate::domain::event::Host;

/// Hosts that metrics name; those that come later are told of together.
pub(super) const NAMED: usize = 100;
/// The name of all others.
const OTHERS: &str = "_other";

static NAMES: LazyLock<RwLock<HashSet<Host>>> = LazyLock::new(RwLock::default);

/// `server.address` and `server.port`.
pub(super) fn labels(host: &Host) -> [KeyValue; 2] {
    let (address, port) = if is_named(host) { split(host) } else { (OTHERS.to_owned(), 0) };
    [KeyValue::new("server.address", StringValue::from(address)), KeyValue::new("server.port", i64::from(port))]
}

/// Address and port of a host.
pub(super) fn split(host: &Host) -> (String, u16) {
    let (address, port) = host.as_str().rsplit_once(':').unwrap_or((host.as_str(), "0"));
    (address.to_owned(), port.parse().unwrap_or(0))
}

fn is_named(host: &Host) -> bool {
    let names = NAMES.read().unwrap_or_else(PoisonError::into_inner);
    if names.contains(host) || names.len() >= NAMED {
        return names.contains(host);
    }
    drop(names);
    let mut names = NAMES.write().unwrap_or_else(PoisonError::into_inner);
    names.len() < NAMED && names.insert(host.clone()) || names.contains(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_hosts_have_names_and_all_others_share_one() {
        let address = |number: usize| labels(&Host::from(format!("host-{number}:80")))[0].value.to_string();
        for number in 0..NAMED {
            assert_eq!(address(number), format!("host-{number}"));
        }
        assert_eq!(address(NAMED), OTHERS);
        assert_eq!(address(0), "host-0");
        assert_eq!(split(&Host::from("[::1]:8080")), ("[::1]".to_owned(), 8080));
    }
}
