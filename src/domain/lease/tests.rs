//! The rules by tables; how they work together is searched by the model.

use super::*;

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn a_lease_counts_from_before_it_was_asked_for_and_less_than_it_lasts() {
    assert_eq!(counts_until(seconds(100), seconds(15)), Duration::from_millis(114_700));
    assert_eq!(counts_until(seconds(0), Duration::ZERO), Duration::ZERO);
}

#[test]
fn an_attempt_begins_only_within_the_lease_and_sends_only_before_its_deadline() {
    assert!(may_begin(seconds(10), seconds(10)));
    assert!(!may_begin(seconds(10) + Duration::from_nanos(1), seconds(10)));
    assert!(may_send(seconds(9), seconds(10)));
    assert!(!may_send(seconds(10), seconds(10)));
}

#[test]
fn only_the_owner_under_its_own_epoch_passes_the_fence() {
    assert!(is_current((Some(&"a"), 3), (&"a", 3)));
    assert!(!is_current((Some(&"a"), 4), (&"a", 3)));
    assert!(!is_current((Some(&"b"), 3), (&"a", 3)));
    assert!(!is_current((None, 3), (&"a", 3)));
}

mod model;
