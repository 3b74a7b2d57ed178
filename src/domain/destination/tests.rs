//! The most specific entry holds, and names are no URLs.

use std::collections::BTreeSet;

use super::*;
use crate::domain::backoff::Delays;

pub(crate) fn destination(entry: &str) -> Destination {
    let second = Duration::from_secs(1);
    let policy = Policy {
        max_attempts: 5,
        max_unknown: 5,
        delays: Delays::Listed { delays: vec![second], jitter: 0.0 },
        retry_after_max: second,
        final_statuses: BTreeSet::new(),
        success_statuses: BTreeSet::new(),
        hold: false,
        gone: crate::domain::verdict::Gone::Fail,
    };
    Destination { entry: entry.into(), ..Destination::defaults(policy, second) }
}

#[test]
fn the_most_specific_entry_holds() {
    let mut destinations = Destinations::new(destination("defaults"));
    let patterns = [
        "api.example.com",
        "api.example.com:8443",
        "*.example.com",
        "*.eu.example.com",
        "*.example.com:81",
        "[::1]",
        "10.0.0.1:80",
    ];
    for pattern in patterns {
        destinations.add_pattern(pattern, destination(pattern));
    }
    destinations.add_name("billing", destination("billing"));
    let table = [
        ("api.example.com:443", "api.example.com"),
        ("api.example.com:8443", "api.example.com:8443"),
        ("www.example.com:443", "*.example.com"),
        ("www.example.com:81", "*.example.com:81"),
        ("a.b.eu.example.com:81", "*.eu.example.com"),
        ("a.b.example.com:443", "*.example.com"),
        ("example.com:443", "defaults"),
        ("notexample.com:443", "defaults"),
        ("[::1]:9000", "[::1]"),
        ("10.0.0.1:80", "10.0.0.1:80"),
        ("10.0.0.1:81", "defaults"),
        ("billing", "billing"),
        ("billing:80", "defaults"),
        ("unknown", "defaults"),
    ];
    for (host, entry) in table {
        assert_eq!(&*destinations.of(&host.into()).entry, entry, "{host}");
    }
}

#[test]
fn a_name_is_no_url_and_a_url_is_no_name() {
    for name in ["billing", "a", "eu-west.billing_2"] {
        assert_eq!(Target::read_back(name), Some(Target::Name(name.into())), "{name}");
        assert_eq!(Target::read_back(name).unwrap().host().as_str(), name);
    }
    for other in ["", "Billing", "1st", "http://a/", "a/b", "a b", "-a", &"a".repeat(64)] {
        assert!(!Target::is_name(other), "{other}");
    }
    let url = Target::read_back("https://user:secret@Example.com/x").unwrap();
    assert_eq!((url.as_str(), url.host().as_str()), ("https://user:secret@example.com/x", "example.com:443"));
}

#[test]
fn events_that_wait_follow_a_url_that_changes() {
    let mut destinations = Destinations::new(destination("defaults"));
    let target = Target::Name("billing".into());
    assert_eq!(destinations.url(&target), None);
    for url in ["http://old/", "http://new/"] {
        let url: Url = url.parse().unwrap();
        destinations.add_name("billing", Destination { url: Some(url.clone()), ..destination("billing") });
        assert_eq!(destinations.url(&target), Some(&url));
    }
}
