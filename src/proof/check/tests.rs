//! A checker that cannot fail proves nothing: each test breaks one promise in a history that keeps all of them, and sees
//! that this one is reported, for the right event.

use super::*;
use crate::proof::history::{DeadLetter, Published};
use crate::proof::load::{Answer, LoadPlan};

pub(in crate::proof) const PROMISES: Promises = Promises {
    host_connections: 2,
    max_attempts: 3,
    backoff_initial_ms: 1_000,
    backoff_max_ms: 1_500,
    backoff_factor: 2.0,
    attempt_timeout_ms: 5_000,
};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Six events of two entities that take turns on one host, of which the fifth never succeeds, and one message of poison.
fn load() -> Load {
    let plan = LoadPlan {
        seed: 1,
        events: 6,
        entities: 2,
        zipf: 0.0,
        hosts: 1,
        payload_bytes: 10,
        duplicates_percent: 0.0,
        numbered_percent: 0.0,
        failures_percent: 0.0,
        doomed_percent: 0.0,
        poison: 1,
        hostile: 2,
    };
    let mut load = Load::new(plan, "t");
    let mut places = [0, 0];
    for (index, event) in load.events.iter_mut().enumerate() {
        event.entity = u32::try_from(index % 2).unwrap();
        places[index % 2] += 1;
        event.place = places[index % 2];
    }
    load
}

fn request(event: usize, attempt: u32, started: u64, ended: u64, answer: Answer) -> Request {
    Request {
        event,
        attempt,
        started: ms(started),
        ended: Some(ms(ended)),
        answer: Some(answer),
        intact: true,
        trace_id: format!("trace-{event}-{attempt}"),
    }
}

/// Everything as it should be: event 2 is tried again once, event 4 three times in vain.
fn good() -> History {
    let published = Published { first: Some(ms(0)), confirmed: true, again: false, connection: 0 };
    let letter = |event, poison, reason: &str| DeadLetter {
        event,
        poison,
        reason: reason.into(),
        attempts: None,
        complete: true,
    };
    History {
        published: vec![published; 6],
        requests: vec![
            request(0, 1, 10, 20, Answer::Ok),
            request(1, 1, 11, 21, Answer::Ok),
            request(2, 1, 30, 40, Answer::ServerError),
            request(3, 1, 31, 41, Answer::SlowBody),
            request(5, 1, 50, 60, Answer::Ok),
            request(2, 2, 1_060, 1_070, Answer::Ok),
            request(4, 1, 1_100, 1_110, Answer::Reset),
            request(4, 2, 2_200, 2_210, Answer::ServerError),
            request(4, 3, 3_800, 3_810, Answer::ServerError),
        ],
        dead_letters: vec![letter(Some(4), None, "exhausted"), letter(None, Some(0), "missing_destination")],
        hostile: vec![
            Hostile { published: 1, confirmed: true, letters: 1, ..Hostile::default() },
            Hostile { honest: true, published: 1, confirmed: true, delivered: 1, ..Hostile::default() },
        ],
        troubles: Vec::new(),
        cut_short: false,
    }
}

/// The violations of a history, as (check, key).
fn violations(history: &History) -> Vec<(Check, Option<String>)> {
    check(&load(), history, &PROMISES).violations.into_iter().map(|found| (found.check, found.key)).collect()
}

fn one(check: Check, event: usize) -> Vec<(Check, Option<String>)> {
    vec![(check, Some(format!("t-{event}")))]
}

#[test]
fn a_history_that_keeps_all_promises_has_no_violation() {
    assert_eq!(violations(&good()), []);
}

#[test]
fn a_lost_event_is_found() {
    let mut history = good();
    history.requests.retain(|request| request.event != 5);
    assert_eq!(violations(&history), one(Check::NothingLost, 5));
    history.published[5].confirmed = false;
    assert_eq!(violations(&history), [], "nobody promised anything for what was not confirmed");
}

#[test]
fn what_may_be_under_way_is_not_lost_when_a_run_is_cut_short() {
    let mut history = good();
    // The last attempt for one event, another one's dead letter and the poison's are still to come.
    history.requests.retain(|request| request.event != 5);
    history.dead_letters.clear();
    let missing: Vec<_> = violations(&history).into_iter().map(|(check, _)| check).collect();
    assert_eq!(missing, [Check::NothingLost, Check::NothingLost, Check::DeadLettersComplete]);
    history.cut_short = true;
    assert_eq!(violations(&history), []);
}

#[test]
fn what_was_seen_before_a_run_is_cut_short_counts() {
    let mut history = History { cut_short: true, ..good() };
    history.requests.push(request(5, 2, 4_000, 4_010, Answer::Ok));
    assert_eq!(violations(&history), one(Check::NothingSentTwice, 5));
    let mut history = History { cut_short: true, ..good() };
    // Event 4 follows event 2, which is to be tried again.
    history.requests.retain(|request| (request.event, request.attempt) != (2, 2));
    assert_eq!(violations(&history), one(Check::InOrder, 4));
}

#[test]
fn the_dead_letter_of_an_event_in_front_may_be_under_way_when_a_run_is_cut_short() {
    let mut load = load();
    load.events[5].entity = 0;
    load.events[5].place = 4;
    let mut history = good();
    history.dead_letters.remove(0);
    // Event 5 begins after the last attempt for event 4.
    let late = history.requests.iter_mut().find(|request| request.event == 5).expect("event 5");
    (late.started, late.ended) = (ms(3_900), Some(ms(3_910)));
    let broken = |history: &History| {
        check(&load, history, &PROMISES).violations.into_iter().map(|found| found.check).collect::<Vec<_>>()
    };
    assert_eq!(broken(&history), [Check::NothingLost, Check::InOrder]);
    history.cut_short = true;
    assert_eq!(broken(&history), []);
}

#[test]
fn an_event_that_failed_for_good_without_a_dead_letter_is_lost() {
    let mut history = good();
    history.dead_letters.remove(0);
    assert_eq!(violations(&history), one(Check::NothingLost, 4));
}

#[test]
fn a_doubled_event_is_found_unless_a_trouble_explains_it() {
    let mut history = good();
    history.requests.push(request(5, 2, 4_000, 4_010, Answer::Ok));
    assert_eq!(violations(&history), one(Check::NothingSentTwice, 5));
    let found = check(&load(), &history, &PROMISES).violations.remove(0);
    assert_eq!((found.earlier_ms, found.later_ms), (Some(50), Some(4_000)));
    assert_eq!(found.trace_id.as_deref(), Some("trace-5-2"));
    history.troubles.push(Trouble {
        what: "kill".into(),
        from: ms(55),
        to: ms(58),
        doubt_until: Some(ms(58)),
        down: None,
    });
    let findings = check(&load(), &history, &PROMISES);
    assert_eq!((findings.violations.len(), findings.explained), (0, 1));
    let late = Some(ms(3_001));
    history.troubles[0] =
        Trouble { what: "kill".into(), from: ms(3_000), to: ms(3_001), doubt_until: late, down: None };
    assert_eq!(violations(&history), one(Check::NothingSentTwice, 5), "too late to explain it");
}

#[test]
fn a_trouble_explains_no_more_than_it_can_have_done() {
    let mut history = good();
    // Delivered again after a worker's pause of some seconds, in which another one had delivered it.
    history.requests.push(request(5, 2, 9_000, 9_010, Answer::Ok));
    let (from, to) = (ms(0), ms(8_000));
    let mut paused = |doubt_until| {
        history.requests[4] = request(5, 1, 4_000, 4_010, Answer::Ok);
        history.troubles = vec![Trouble { what: "pause".into(), from, to, doubt_until, down: None }];
        violations(&history)
    };
    assert_eq!(paused(Some(ms(8_000))), []);
    assert_eq!(
        paused(Some(ms(1))),
        one(Check::NothingSentTwice, 5),
        "a worker that stands still leaves nothing in doubt"
    );
    assert_eq!(paused(None), one(Check::NothingSentTwice, 5));
}

#[test]
fn a_reordered_pair_is_found() {
    let mut history = good();
    // Event 3 goes before event 1.
    history.requests[1] = request(1, 1, 45, 48, Answer::Ok);
    assert_eq!(violations(&history), one(Check::InOrder, 3));
}

#[test]
fn an_event_that_does_not_wait_for_a_retry_is_found() {
    let mut history = good();
    // Event 4 does not wait for the second attempt of event 2.
    history.requests[6] = request(4, 1, 900, 910, Answer::Reset);
    assert_eq!(violations(&history), one(Check::InOrder, 4));
}

#[test]
fn numbers_are_the_order_whatever_was_published_first_and_a_repeated_publish_leaves_it_open() {
    let mut history = good();
    history.requests[1] = request(1, 1, 45, 48, Answer::Ok);
    history.published[3].again = true;
    assert_eq!(violations(&history), [], "nobody knows which of the two arrived first");
    let mut load = load();
    load.events.iter_mut().for_each(|event| event.numbered = true);
    assert_eq!(check(&load, &history, &PROMISES).violations.len(), 1, "but a number tells");
}

#[test]
fn order_is_not_known_where_the_producer_lost_its_connection_while_an_event_may_have_been_in_a_queue() {
    let mut history = good();
    history.requests[1] = request(1, 1, 45, 48, Answer::Ok);
    for (event, first) in [(3, 30), (5, 35)] {
        history.published[event] = Published { connection: 1, first: Some(ms(first)), ..history.published[event] };
    }
    assert_eq!(violations(&history), [], "a broker that has restarted may have dealt event 3 to another queue");
    history.requests[1] = request(1, 1, 11, 21, Answer::ServerError);
    history.requests.push(request(1, 2, 1_050, 1_060, Answer::Ok));
    assert_eq!(violations(&history), one(Check::InOrder, 3), "event 1 was at work when event 3 was published");
}

#[test]
fn an_overlap_within_an_entity_is_found() {
    let mut history = good();
    history.requests[0].ended = Some(ms(35));
    history.requests[3] = request(3, 1, 41, 45, Answer::SlowBody);
    assert_eq!(violations(&history), one(Check::NoOverlap, 2));
}

#[test]
fn more_requests_than_the_cap_are_found() {
    let mut history = good();
    history.requests[3].ended = Some(ms(48));
    history.requests[2].ended = Some(ms(52));
    assert_eq!(violations(&history), [], "two at a time are allowed");
    let promises = Promises { host_connections: 1, ..PROMISES };
    let found = check(&load(), &history, &promises).violations;
    assert!(found.iter().any(|found| found.check == Check::HostCap && found.key.is_none()), "{found:?}");
}

#[test]
fn a_retry_that_comes_too_early_is_found() {
    let mut history = good();
    history.requests[5] = request(2, 2, 900, 910, Answer::Ok);
    assert_eq!(violations(&history), one(Check::AttemptsAndBackoff, 2));
    let mut history = good();
    history.requests[7] = request(4, 2, 2_200, 2_210, Answer::TooManyRequests);
    history.requests[8] = request(4, 3, 3_600, 3_610, Answer::ServerError);
    assert_eq!(violations(&history), one(Check::AttemptsAndBackoff, 4), "1.5 s is the second delay");
}

#[test]
fn an_attempt_too_many_is_found() {
    let mut history = good();
    history.requests.push(request(4, 4, 6_000, 6_010, Answer::ServerError));
    assert_eq!(violations(&history), one(Check::AttemptsAndBackoff, 4));
}

#[test]
fn a_corrupted_body_is_found() {
    let mut history = good();
    history.requests[3].intact = false;
    assert_eq!(violations(&history), one(Check::PayloadIntact, 3));
}

#[test]
fn dead_letters_that_lack_something_or_should_not_be_are_found() {
    let broken = |change: fn(&mut History)| {
        let mut history = good();
        change(&mut history);
        violations(&history)
    };
    assert_eq!(broken(|history| history.dead_letters[0].complete = false), one(Check::DeadLettersComplete, 4));
    assert_eq!(broken(|history| history.dead_letters[0].event = Some(5))[1..], one(Check::DeadLettersComplete, 5));
    let wrong_reason = |history: &mut History| history.dead_letters[0].reason = "key_conflict".into();
    assert_eq!(broken(wrong_reason), one(Check::DeadLettersComplete, 4));
    assert_eq!(broken(|history| history.dead_letters[1].complete = false), [(Check::DeadLettersComplete, None)]);
    assert_eq!(broken(|history| drop(history.dead_letters.pop())), [(Check::DeadLettersComplete, None)]);
    let twice = |history: &mut History| history.dead_letters.push(history.dead_letters[0].clone());
    assert_eq!(broken(twice), one(Check::DeadLettersComplete, 4));
}

#[test]
fn a_hostile_message_that_has_no_end_or_two_is_found() {
    let broken = |number: usize, change: fn(&mut Hostile)| {
        let mut history = good();
        change(&mut history.hostile[number]);
        violations(&history).into_iter().map(|(check, _)| check).collect::<Vec<_>>()
    };
    assert_eq!(broken(0, |hostile| hostile.letters = 0), [Check::NothingLost]);
    assert_eq!(
        broken(0, |hostile| (hostile.letters, hostile.confirmed) = (0, false)),
        [],
        "nothing was promised for it"
    );
    assert_eq!(broken(0, |hostile| hostile.letters = 2), [Check::DeadLettersComplete]);
    assert_eq!(broken(0, |hostile| (hostile.letters, hostile.published) = (2, 2)), [], "it was sent twice");
    assert_eq!(broken(0, |hostile| hostile.delivered = 1), [Check::DeadLettersComplete]);
    assert_eq!(broken(1, |hostile| hostile.delivered = 2), [Check::NothingSentTwice]);
    assert_eq!(broken(1, |hostile| (hostile.delivered, hostile.letters) = (0, 1)), [Check::DeadLettersComplete]);
    let mut history = History { cut_short: true, ..good() };
    history.hostile[0].letters = 0;
    assert_eq!(violations(&history), [], "its letter may be under way");
    let mut history = good();
    history.hostile[0].letters = 2;
    history.troubles.push(Trouble { what: "kill".into(), from: ms(1), to: ms(2), doubt_until: None, down: None });
    assert_eq!(violations(&history), [], "a worker may have stopped before it acknowledged the message");
}

#[test]
fn every_check_has_a_title_and_a_stored_name() {
    for check in Check::ALL {
        let name = serde_json::to_string(&check).unwrap();
        assert_eq!(serde_json::from_str::<Check>(&name).unwrap(), check);
        assert!(!check.title().is_empty());
    }
}

#[test]
fn a_host_that_is_back_and_gets_nothing_for_too_long_is_found() {
    let mut history = good();
    let down = |to, within| {
        let down = Some(Down { host: 0, goes_on_within: ms(within) });
        vec![Trouble { what: "down".into(), from: ms(65), to: ms(to), doubt_until: None, down }]
    };
    for (to, within, found) in [(70, 990, vec![]), (70, 900, one(Check::GoesOn, 2)), (5_000, 1, vec![])] {
        history.troubles = down(to, within);
        assert_eq!(violations(&history), found, "back at {to} ms, {within} ms are allowed");
    }
    // Down again before it was found to be back: it has been down since the first time.
    let first =
        Trouble { what: "down".into(), from: ms(61), to: ms(64), doubt_until: None, down: history.troubles[0].down };
    for (from, within, found) in [(300, 700, vec![]), (300, 500, one(Check::GoesOn, 2))] {
        let down = Some(Down { host: 0, goes_on_within: ms(within) });
        let second = Trouble { from: ms(from), to: ms(310), down, ..first.clone() };
        history.troubles = vec![first.clone(), second];
        assert_eq!(violations(&history), found, "{within} ms are allowed, and those before it");
    }
}

#[test]
fn an_event_that_failed_without_having_had_its_attempts_is_found() {
    let mut history = good();
    history.dead_letters[0].attempts = Some(3);
    assert_eq!(violations(&history), []);
    history.dead_letters[0].attempts = Some(2);
    assert_eq!(violations(&history), one(Check::AttemptsAndBackoff, 4));
}
