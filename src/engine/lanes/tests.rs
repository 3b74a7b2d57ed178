//! What each method of [`Lanes`] promises; that all of them together keep the order is shown by the simulator.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use url::Url;

use super::*;
use crate::domain::event::{Host, Sequence, Target};

const BODIES: &[u8] = &[0; 2 * LINE_BYTES];

/// An event of `entity`, on partition 1 if its name begins with b.
fn candidate(entity: &str, id: i64, sequence: Option<i64>, bytes: usize) -> Candidate {
    let event = Event {
        key: format!("key-{id}").into(),
        entity: entity.into(),
        partition: Partition(i32::from(entity.starts_with('b'))),
        sequence: sequence.map(Sequence),
        destination: Target::Url(destination()),
        host: Host::from("host:80"),
        content_type: None,
        content_encoding: None,
        headers: HeaderMap::new(),
        traceparent: None,
        trace: None,
        is_sent_back: false,
        ingested_ms: 0,
        tracestate: None,
        properties: Bytes::new(),
        body: Bytes::from_static(&BODIES[..bytes]),
    };
    Candidate { id: EventId(id), attempts: 0, unknown: 0, event: Arc::new(event) }
}

/// Parsed once: thousands of cases make events.
fn destination() -> Url {
    static DESTINATION: std::sync::OnceLock<Url> = std::sync::OnceLock::new();
    DESTINATION.get_or_init(|| "http://host/".parse().unwrap()).clone()
}

fn unnumbered(id: i64) -> Candidate {
    candidate("a", id, None, 0)
}

fn numbered(id: i64, sequence: i64) -> Candidate {
    candidate("a", id, Some(sequence), 0)
}

fn a() -> Entity {
    Entity::from("a")
}

/// Lanes with one lane, whose head is number 1 and has no line behind it.
fn one_lane(head: Candidate) -> Lanes {
    let mut lanes = Lanes::default();
    assert!(lanes.head_admitted(head, false, 0));
    lanes
}

fn head_id(lanes: &Lanes) -> Option<i64> {
    lanes.head(&a()).map(|head| head.id.0)
}

fn start_and_finish(lanes: &mut Lanes, id: i64) -> After {
    assert_eq!(lanes.start(&a()).map(|head| head.id), Some(EventId(id)));
    lanes.finished(&a(), EventId(id))
}

#[test]
fn an_attempt_begins_once_for_a_head() {
    let mut lanes = one_lane(unnumbered(1));
    assert_eq!(lanes.len(), 1);
    assert_eq!(lanes.start(&a()).map(|head| head.id), Some(EventId(1)));
    assert!(lanes.start(&a()).is_none(), "it has begun");
    assert!(lanes.start(&Entity::from("other")).is_none(), "it has no lane");
    assert_eq!(head_id(&lanes), Some(1), "the head stays known while it is sent");
}

#[test]
fn a_lane_without_a_line_goes_with_its_head() {
    let mut lanes = one_lane(unnumbered(1));
    assert_eq!(start_and_finish(&mut lanes, 1), After::Gone);
    assert!(lanes.is_empty());
}

#[test]
fn only_a_started_head_can_become_final() {
    let mut lanes = one_lane(unnumbered(1));
    assert_eq!(lanes.finished(&a(), EventId(1)), After::Gone);
    lanes.start(&a());
    assert_eq!(lanes.finished(&a(), EventId(2)), After::Gone);
    assert_eq!(lanes.finished(&Entity::from("other"), EventId(1)), After::Gone);
    assert_eq!(head_id(&lanes), Some(1), "nothing of it changed the lane");
}

#[test]
fn followers_are_sent_one_after_the_other() {
    let mut lanes = one_lane(unnumbered(1));
    lanes.follower_admitted(unnumbered(2));
    lanes.start(&a());
    lanes.follower_admitted(unnumbered(3));
    assert_eq!(lanes.finished(&a(), EventId(1)), After::Send);
    assert_eq!(head_id(&lanes), Some(2));
    assert_eq!(start_and_finish(&mut lanes, 2), After::Send);
    assert_eq!(start_and_finish(&mut lanes, 3), After::Gone);
}

#[test]
fn what_comes_next_is_known_before_the_head_is_final() {
    let mut lanes = one_lane(unnumbered(1));
    let next = |lanes: &Lanes, id| match lanes.next(&a(), EventId(id)) {
        Then::Begin(next) => next.id.0.to_string(),
        other => format!("{other:?}"),
    };
    lanes.follower_admitted(unnumbered(2));
    assert_eq!(next(&lanes, 1), "Nothing", "it has not begun");
    lanes.start(&a());
    assert_eq!(next(&lanes, 1), "2");
    assert_eq!(next(&lanes, 2), "Nothing", "it is not the head");
    assert_eq!(lanes.finished(&a(), EventId(1)), After::Send);
    lanes.start(&a());
    assert_eq!(next(&lanes, 2), "Nothing", "nobody is behind it");
    lanes.goes_on(&a());
    assert_eq!(next(&lanes, 2), "Read");
    assert_eq!(lanes.finished(&a(), EventId(2)), After::Load);
    assert_eq!(next(&lanes, 2), "Nothing", "it is being read");
}

#[test]
fn a_follower_without_a_lane_stays_in_the_store() {
    let mut lanes = Lanes::default();
    lanes.follower_admitted(unnumbered(2));
    assert!(lanes.is_empty());
}

#[test]
fn a_lane_keeps_few_events_and_reads_the_rest() {
    let mut lanes = one_lane(unnumbered(0));
    let last = i64::try_from(LINE_EVENTS).unwrap() + 3;
    (1..=last).for_each(|id| lanes.follower_admitted(unnumbered(id)));
    let kept: Vec<_> = lanes.lanes[&a()].behind.iter().map(|kept| kept.id.0).collect();
    assert_eq!(kept, (1..).take(LINE_EVENTS).collect::<Vec<_>>());
    for id in 0..4 {
        assert_eq!(start_and_finish(&mut lanes, id), After::Send);
    }
    lanes.follower_admitted(unnumbered(last + 1));
    assert_eq!(start_and_finish(&mut lanes, 4), After::Load, "those in the store come first");
    assert_eq!(head_id(&lanes), None, "nobody is sent while the line is read");
    assert!(lanes.start(&a()).is_none());
}

#[test]
fn a_lane_keeps_few_bytes() {
    let half = LINE_BYTES / 2;
    let mut lanes = one_lane(candidate("a", 1, None, 2 * LINE_BYTES));
    for id in 2..=4 {
        lanes.follower_admitted(candidate("a", id, None, half));
    }
    assert_eq!(lanes.lanes[&a()].behind.len(), 2);
    assert_eq!(lanes.lanes[&a()].behind_bytes, LINE_BYTES);
    assert_eq!(start_and_finish(&mut lanes, 1), After::Send);
    assert_eq!(lanes.lanes[&a()].behind_bytes, half, "what became the head is no longer behind it");
    lanes.follower_admitted(candidate("a", 5, None, 0));
    assert_eq!(start_and_finish(&mut lanes, 2), After::Send);
    assert_eq!(start_and_finish(&mut lanes, 3), After::Load);
}

#[test]
fn only_what_comes_right_after_the_last_is_kept() {
    let table = [
        (numbered(1, 7), numbered(2, 8), After::Send),
        (numbered(1, 7), numbered(2, 9), After::Load),
        (numbered(1, 7), numbered(2, 6), After::Load),
        (numbered(1, 7), unnumbered(2), After::Load),
        (unnumbered(1), numbered(2, 1), After::Load),
        (unnumbered(1), unnumbered(2), After::Send),
    ];
    for (head, follower, after) in table {
        let shown = format!("{:?} {:?}", head.event.sequence, follower.event.sequence);
        let mut lanes = one_lane(head);
        lanes.follower_admitted(follower);
        assert_eq!(start_and_finish(&mut lanes, 1), after, "{shown}");
    }
}

#[test]
fn a_number_that_fills_the_gap_late_is_read_from_the_store() {
    let mut lanes = one_lane(numbered(1, 1));
    lanes.follower_admitted(numbered(2, 3));
    lanes.follower_admitted(numbered(3, 2));
    assert_eq!(start_and_finish(&mut lanes, 1), After::Load);
    assert!(lanes.loaded(&a(), vec![numbered(3, 2), numbered(2, 3)], false));
    assert_eq!(start_and_finish(&mut lanes, 3), After::Send);
    assert_eq!(start_and_finish(&mut lanes, 2), After::Gone);
}

#[test]
fn a_head_with_others_open_reads_the_line_after_it() {
    let mut lanes = Lanes::default();
    assert!(lanes.head_admitted(numbered(2, 1), true, 0));
    lanes.follower_admitted(numbered(3, 2));
    assert_eq!(start_and_finish(&mut lanes, 2), After::Load);
}

#[test]
fn an_event_that_woke_has_its_line_read_after_it() {
    let mut lanes = Lanes::default();
    assert!(lanes.woken(unnumbered(1)));
    assert_eq!(start_and_finish(&mut lanes, 1), After::Load);
    assert!(!lanes.loaded(&a(), Vec::new(), false), "the line has ended");
    assert!(lanes.is_empty());
}

#[test]
fn waking_an_entity_at_work_changes_only_that_its_line_is_read() {
    let mut lanes = Lanes::default();
    assert!(lanes.head_admitted(unnumbered(1), false, 7));
    assert!(!lanes.woken(unnumbered(1)));
    assert!(!lanes.head_admitted(unnumbered(9), false, 7));
    assert_eq!(lanes.bytes(), 7, "what has no lane does not count");
    lanes.start(&a());
    assert!(!lanes.woken(unnumbered(1)));
    assert!(lanes.start(&a()).is_none(), "the attempt goes on");
    assert_eq!(lanes.finished(&a(), EventId(1)), After::Load);
}

#[test]
fn a_lane_that_was_told_of_more_reads_it_before_what_comes_later() {
    let mut lanes = one_lane(unnumbered(1));
    lanes.follower_admitted(unnumbered(2));
    lanes.goes_on(&a());
    lanes.goes_on(&Entity::from("other"));
    assert_eq!(lanes.len(), 1, "an entity without a lane has its line in the store");
    lanes.follower_admitted(unnumbered(4));
    assert_eq!(start_and_finish(&mut lanes, 1), After::Send);
    assert_eq!(start_and_finish(&mut lanes, 2), After::Load);
}

#[test]
fn a_head_that_did_not_start_has_its_line_read_anew() {
    let mut lanes = one_lane(unnumbered(1));
    lanes.follower_admitted(candidate("a", 2, None, LINE_BYTES));
    lanes.start(&a());
    assert!(lanes.not_started(&a(), EventId(1)));
    assert_eq!(head_id(&lanes), None, "nobody is sent while the line is read");
    assert!(!lanes.not_started(&a(), EventId(1)), "it is being read already");
    lanes.follower_admitted(unnumbered(3));
    assert!(lanes.loaded(&a(), vec![candidate("a", 2, None, LINE_BYTES), unnumbered(3)], false));
    assert_eq!(lanes.lanes[&a()].behind_bytes, 0);
    assert_eq!(start_and_finish(&mut lanes, 2), After::Send);
    assert_eq!(start_and_finish(&mut lanes, 3), After::Gone, "each is there once");
}

#[test]
fn only_a_head_that_was_to_start_can_fail_to() {
    let mut lanes = one_lane(unnumbered(1));
    assert!(!lanes.not_started(&a(), EventId(1)));
    lanes.start(&a());
    assert!(!lanes.not_started(&a(), EventId(2)));
    assert!(!lanes.not_started(&Entity::from("other"), EventId(1)));
    assert_eq!(head_id(&lanes), Some(1), "nothing of it changed the lane");
    assert_eq!(lanes.finished(&a(), EventId(1)), After::Gone);
}

#[test]
fn a_loaded_line_is_sent_in_order_and_read_on_if_it_goes_on() {
    for more in [false, true] {
        let mut lanes = Lanes::default();
        lanes.woken(unnumbered(1));
        assert_eq!(start_and_finish(&mut lanes, 1), After::Load);
        assert!(lanes.loaded(&a(), vec![unnumbered(2), unnumbered(3)], more));
        lanes.follower_admitted(unnumbered(4));
        assert_eq!(start_and_finish(&mut lanes, 2), After::Send);
        let after = start_and_finish(&mut lanes, 3);
        assert_eq!(after, if more { After::Load } else { After::Send });
    }
}

#[test]
fn a_long_loaded_line_is_cut_to_the_bounds_of_a_lane() {
    let mut lanes = Lanes::default();
    lanes.woken(unnumbered(0));
    start_and_finish(&mut lanes, 0);
    assert!(lanes.loaded(&a(), (1..20).map(unnumbered).collect(), false));
    assert_eq!(lanes.lanes[&a()].behind.len(), LINE_EVENTS);
    assert!(lanes.lanes[&a()].more);
}

#[test]
fn an_event_that_was_recorded_with_its_attempt_is_at_work_at_once() {
    for others_open in [false, true] {
        let mut lanes = Lanes::default();
        assert!(lanes.head_begun(unnumbered(1), others_open, 0));
        assert!(lanes.start(&a()).is_none(), "it has begun");
        let after = lanes.finished(&a(), EventId(1));
        assert_eq!(after, if others_open { After::Load } else { After::Gone });
    }
}

#[test]
fn an_event_that_was_recorded_with_its_attempt_takes_the_place_of_a_line_that_is_being_read() {
    let mut lanes = Lanes::default();
    lanes.woken(unnumbered(1));
    assert_eq!(start_and_finish(&mut lanes, 1), After::Load);
    assert!(lanes.head_begun(unnumbered(2), false, 0));
    assert!(!lanes.loaded(&a(), vec![unnumbered(2)], false), "it was read on the way");
    assert_eq!(lanes.finished(&a(), EventId(2)), After::Gone);
}

#[test]
fn no_event_begins_beside_another_one() {
    let mut lanes = one_lane(unnumbered(1));
    assert!(!lanes.head_begun(unnumbered(2), false, 0));
    assert_eq!(start_and_finish(&mut lanes, 1), After::Gone);
}

#[test]
fn a_line_that_nobody_asked_for_is_ignored() {
    let mut lanes = one_lane(unnumbered(1));
    assert!(!lanes.loaded(&a(), vec![unnumbered(2)], true));
    assert!(!lanes.loaded(&Entity::from("other"), vec![unnumbered(2)], true));
    assert_eq!((lanes.len(), head_id(&lanes)), (1, Some(1)));
    assert_eq!(start_and_finish(&mut lanes, 1), After::Gone);
}

#[test]
fn a_forgotten_lane_gives_its_memory_back() {
    let mut lanes = Lanes::default();
    lanes.head_admitted(unnumbered(1), false, 7);
    assert_eq!(lanes.bytes(), 7);
    lanes.forget(&a());
    lanes.forget(&a());
    assert!(lanes.is_empty());
    assert_eq!(lanes.bytes(), 0);
}

#[test]
fn a_lost_partition_takes_its_lanes_along() {
    let mut lanes = Lanes::default();
    for entity in ["a1", "b1", "b2"] {
        lanes.head_admitted(candidate(entity, 1, None, 0), false, 7);
    }
    assert_eq!((lanes.len(), lanes.bytes()), (3, 21));
    assert!(!lanes.is_empty());
    lanes.forget_partition(Partition(1));
    assert_eq!((lanes.len(), lanes.bytes()), (1, 7));
    assert!(lanes.head(&Entity::from("a1")).is_some());
}
