//! Tables of what shuts a gate, and of its states.

use super::*;
use crate::domain::verdict::NotSent;

const POLICY: GatePolicy =
    GatePolicy { failures: 5, probe_initial: Duration::from_secs(1), probe_max: Duration::from_mins(1) };

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn answer(status: u16, retry_after: Option<u64>) -> Outcome {
    Outcome::Response { status, retry_after: retry_after.map(Duration::from_secs), excerpt: String::new() }
}

#[test]
fn outcomes_are_signs_by_the_table() {
    let late = |phase| Outcome::NoResponse(NoResponse::Late(secs(5), phase));
    let silent = |kind: fn(String) -> NoResponse| Outcome::NoResponse(kind(String::new()));
    let table = [
        (answer(200, None), Sign::Well),
        (answer(301, None), Sign::Well),
        (answer(404, None), Sign::Well),
        (answer(410, None), Sign::Well),
        (answer(429, None), Sign::Unclear),
        (answer(429, Some(9)), Sign::Unclear),
        (answer(429, Some(10)), Sign::Unwell),
        (answer(500, Some(60)), Sign::Unclear),
        (answer(501, None), Sign::Unclear),
        (answer(502, None), Sign::Unwell),
        (answer(503, None), Sign::Unwell),
        (answer(504, None), Sign::Unwell),
        (silent(NoResponse::Dns), Sign::Unreachable),
        (silent(NoResponse::Connect), Sign::Unreachable),
        (silent(NoResponse::Tls), Sign::Unreachable),
        (silent(NoResponse::Proxy), Sign::Unreachable),
        (late(Phase::Resolving), Sign::Unreachable),
        (late(Phase::Connecting), Sign::Unreachable),
        (late(Phase::Sending), Sign::Unwell),
        (late(Phase::Waiting), Sign::Unwell),
        (silent(NoResponse::Closed), Sign::Unwell),
        (silent(NoResponse::Protocol), Sign::Unwell),
        (silent(NoResponse::Broken), Sign::Unwell),
        (Outcome::Unknown, Sign::Nothing),
        (Outcome::NotSent(NotSent::Shortage(String::new())), Sign::Nothing),
    ];
    for (outcome, sign) in table {
        assert_eq!(Sign::of(&outcome, |status| (200..300).contains(&status)), sign, "{outcome:?}");
    }
    assert_eq!(Sign::of(&answer(503, None), |status| status == 503), Sign::Well, "it is a success there");
}

fn row(failures: &[(Sign, i64, bool)]) -> Row {
    row_of(failures, secs(1))
}

/// Each failure comes so long after the one before it.
fn row_of(failures: &[(Sign, i64, bool)], apart: Duration) -> Row {
    let (mut row, mut now) = (Row::default(), secs(9));
    for (sign, id, before) in failures {
        now += apart;
        row.note(Failed { sign: *sign, id: EventId(*id), before: *before, took: Duration::ZERO }, now);
    }
    row
}

#[test]
fn a_host_that_can_not_be_reached_shuts_its_gate_whatever_the_event() {
    let one = [(Sign::Unreachable, 1, true); 5];
    assert!(row(&one).shuts(5) && !row(&one[..4]).shuts(5));
    assert!(!row(&one).shuts(0), "nothing shuts it");
}

#[test]
fn an_event_that_fails_alone_does_not_shut_it() {
    assert!(!row(&[(Sign::Unwell, 1, false); 50]).shuts(5), "one event");
    let before = [(Sign::Unwell, 1, true), (Sign::Unwell, 2, true), (Sign::Unwell, 3, true)];
    assert!(!row(&[before, before, before].concat()).shuts(5), "they failed when the host was well");
    let several = [(Sign::Unwell, 1, false), (Sign::Unwell, 2, false), (Sign::Unwell, 1, true)];
    assert!(row(&several).shuts(3), "several, and again in the same row");
    assert!(row(&[(Sign::Unwell, 1, false), (Sign::Unreachable, 2, true)]).shuts(2), "of both kinds");
}

#[test]
fn many_events_that_fail_at_once_do_not_shut_it_unless_nothing_was_heard_for_a_while() {
    let many: Vec<_> = (0..50).map(|id| (Sign::Unwell, id, false)).collect();
    assert!(!row_of(&many, Duration::from_millis(10)).shuts(5));
    assert!(row_of(&many, Duration::from_millis(30)).shuts(5));
    assert!(row_of(&many[..2], Duration::ZERO).shuts_again(5), "a host that opens is not believed at once");
    assert!(!row_of(&many[..1], Duration::ZERO).shuts_again(5) && !row_of(&many, Duration::ZERO).shuts_again(0));
    let mut silent = Row::default();
    for id in 0..5 {
        silent.note(Failed { sign: Sign::Unwell, id: EventId(id), before: false, took: secs(5) }, secs(9));
    }
    assert!(silent.shuts(5), "it has said nothing for five seconds");
    assert!(row_of(&[(Sign::Unreachable, 1, false); 5], Duration::ZERO).shuts(5), "no event is the cause");
}

#[test]
fn the_pause_doubles_up_to_the_longest() {
    let pauses: Vec<u64> = (0..9).map(|probes| POLICY.pause(probes, 0).as_secs()).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    assert_eq!(POLICY.pause(u16::MAX, 0), secs(60));
    let most = (0..7).map(|probes| POLICY.pause(probes, u64::MAX)).sum::<Duration>();
    assert!(most > secs(123) && most < secs(127), "{most:?}");
}

#[test]
fn a_gate_is_shut_probed_and_opened() {
    let after = |before: Option<&Gate>, change: &Change, now| Gate::after(before, change, &POLICY, 0, secs(now));
    let shut = Change::Shut("no connection".into(), Duration::ZERO);
    let claim = Change::Claim(secs(5));
    let first = after(None, &shut, 100).unwrap();
    assert_eq!((first.state, first.probes, first.since, first.next), (GateState::Shut, 0, secs(100), secs(101)));
    assert_eq!(after(Some(&first), &shut, 100), None, "it is shut");
    assert_eq!(after(Some(&first), &claim, 100), None, "too early");
    let probing = after(Some(&first), &claim, 101).unwrap();
    assert_eq!((probing.state, probing.next), (GateState::Probing, secs(116)));
    assert_eq!(after(Some(&probing), &claim, 115), None, "somebody probes");
    assert_eq!(after(Some(&probing), &claim, 116).map(|gate| gate.next), Some(secs(131)), "that probe is void");
    let failed = after(Some(&probing), &Change::Failed("still none".into(), Duration::ZERO), 102).unwrap();
    assert_eq!((failed.state, failed.probes, failed.since, failed.next), (GateState::Shut, 1, secs(100), secs(104)));
    assert_eq!(failed.reason, "still none");
    let open = after(Some(&after(Some(&failed), &claim, 104).unwrap()), &Change::Passed, 105).unwrap();
    assert_eq!((open.state, open.next), (GateState::Open, secs(225)));
    let again = after(Some(&open), &shut, 110).unwrap();
    assert_eq!((again.probes, again.since, again.next), (1, secs(110), secs(112)), "it is not believed at once");
    let later = after(Some(&open), &shut, 225).unwrap();
    assert_eq!((later.probes, later.next), (0, secs(226)));
}

#[test]
fn a_host_is_left_alone_for_as_long_as_it_asks() {
    for (seconds, next) in [(0, 1), (30, 30), (3_600, 60)] {
        let asked = Gate::after(None, &Change::Shut("429".into(), secs(seconds)), &POLICY, 0, secs(0)).unwrap();
        assert_eq!(asked.next, secs(next), "up to the longest pause: others may fare better");
    }
}

#[test]
fn every_pair_of_state_and_change_is_decided() {
    let changes = [
        Change::Shut(String::new(), Duration::ZERO),
        Change::Claim(secs(5)),
        Change::Passed,
        Change::Failed(String::new(), Duration::ZERO),
        Change::Released,
        Change::Gone,
        Change::Bears(1),
    ];
    let legal = [
        (GateState::Shut, 1, GateState::Probing),
        (GateState::Shut, 2, GateState::Open),
        (GateState::Probing, 1, GateState::Probing),
        (GateState::Probing, 2, GateState::Open),
        (GateState::Probing, 3, GateState::Shut),
        (GateState::Probing, 4, GateState::Shut),
        (GateState::Probing, 5, GateState::Shut),
        (GateState::Open, 0, GateState::Shut),
    ];
    for state in GateState::ALL {
        assert_eq!(GateState::read_back(state.name()), Some(state));
        let gate = Gate { state, probes: 0, since: secs(1), next: secs(2), reason: String::new() };
        for (number, change) in changes.iter().enumerate() {
            let expected = legal.iter().find(|(from, by, _)| (*from, *by) == (state, number)).map(|(_, _, to)| *to);
            let after = Gate::after(Some(&gate), change, &POLICY, 0, secs(3)).map(|gate| gate.state);
            assert_eq!(after, expected, "{state:?} {change:?}");
        }
    }
    for change in &changes[1..] {
        assert_eq!(Gate::after(None, change, &POLICY, 0, secs(3)), None);
    }
}
