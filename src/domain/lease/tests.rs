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

const fn at(n: u64) -> Look {
    Look { asked: seconds(n), answered: seconds(n + 1) }
}

#[test]
fn a_member_is_gone_when_its_renewals_stood_still_for_a_lease() {
    let mut sightings = Sightings::default();
    let mut look = |time, renewals: &[(char, i64)]| {
        sightings.note(at(time), renewals.iter().map(|(member, renewal)| (*member, *renewal, seconds(10))))
    };
    assert_eq!(look(100, &[('a', 7), ('b', 1)]), []);
    assert_eq!(look(104, &[('a', 7), ('b', 2)]), [], "b has renewed");
    assert_eq!(look(107, &[('a', 7), ('b', 2)]), []);
    assert_eq!(look(110, &[('a', 7), ('b', 2)]), [], "the first look was answered at 101");
    assert_eq!(look(111, &[('a', 7), ('b', 2)]), [('a', 7)]);
    assert_eq!(look(114, &[('a', 8), ('b', 2)]), [], "a is back");
    assert_eq!(look(115, &[('a', 8), ('b', 2)]), [('b', 2)]);
}

#[test]
fn a_watch_begins_anew_after_a_time_in_which_nobody_could_look() {
    let mut sightings = Sightings::default();
    let mut look = |time| sightings.note(at(time), [('a', 7, seconds(10))]);
    assert_eq!(look(100), []);
    assert_eq!(look(106), [], "five seconds since the last answer");
    assert_eq!(look(110), []);
    assert_eq!(look(114), [], "not since 101");
    assert_eq!(look(117), [('a', 7)], "but since 107");
}

#[test]
fn each_member_is_given_its_own_lease() {
    let mut sightings = Sightings::default();
    let mut look = |time| sightings.note(at(time), [('a', 1, seconds(30)), ('b', 1, seconds(10))]);
    assert_eq!(look(0), []);
    assert_eq!(look(5), []);
    assert_eq!(look(10), []);
    assert_eq!(look(11), [('b', 1)]);
    assert_eq!(look(15), [('b', 1)]);
    assert_eq!(look(20), [('b', 1)]);
    assert_eq!(look(31), [('a', 1)], "of b, nothing was seen for a while");
}

mod doubt;
mod model;
mod search;
