//! The cap is never passed, nobody is stuck behind somebody else, and nothing is kept of a host without work.

use std::collections::BTreeSet;

use super::*;
use crate::domain::backoff::{Backoff, Delays};
use crate::domain::destination::Destination;
use crate::domain::verdict::{Gone, Policy};

mod model;

const NOW: Duration = Duration::from_secs(100);

/// Of a worker that has the whole of a cap.
pub(super) fn hosts_with(cap: usize, in_all: usize) -> Hosts {
    let mut hosts = Hosts::new(cap, in_all, Arc::new(Destinations::new(destination())));
    hosts.set_share(cap);
    hosts.at(NOW);
    hosts
}

/// What holds without any entry.
fn destination() -> Destination {
    let backoff = Backoff { initial: PATIENCE, max: PATIENCE, factor: 1.0, jitter: 0.0 };
    let policy = Policy {
        max_attempts: 5,
        max_unknown: 5,
        delays: Delays::Growing(backoff),
        retry_after_max: PATIENCE,
        final_statuses: BTreeSet::new(),
        success_statuses: BTreeSet::new(),
        hold: false,
        gone: Gone::Fail,
    };
    Destination::defaults(policy, PATIENCE)
}

fn host(number: usize) -> Host {
    Host::from(format!("host-{number}:80"))
}

fn entity(number: usize) -> Entity {
    Entity::from(format!("entity-{number}"))
}

/// Offers events of a host until one is not taken in; the answer to that one, and how many were.
fn fill(hosts: &mut Hosts, host: &Host, now: Duration) -> (Offer, usize) {
    for taken in 0.. {
        match hosts.offer(host, now) {
            Offer::Ready => hosts.enqueue(host, entity(taken), now),
            refused => return (refused, taken),
        }
    }
    unreachable!("a queue has an end")
}

fn start_all(hosts: &mut Hosts) -> Vec<Host> {
    std::iter::from_fn(|| hosts.start_next()).map(|turn| turn.host).collect()
}

#[test]
fn a_host_gets_its_ceiling_and_no_more() {
    let mut hosts = hosts_with(50, 2_048);
    fill(&mut hosts, &host(0), NOW);
    assert_eq!(start_all(&mut hosts).len(), 50);
    assert_eq!(hosts.begun, 50);
    hosts.ended(&host(0), false, None);
    assert_eq!(start_all(&mut hosts), [host(0)], "one ends, one begins");
}

#[test]
fn all_hosts_together_get_no_more_than_the_ceiling_over_all() {
    let mut hosts = hosts_with(50, 60);
    for number in 0..100 {
        fill(&mut hosts, &host(number), NOW);
    }
    assert_eq!(start_all(&mut hosts).len(), 60);
    assert_eq!(hosts.begun, 60);
}

#[test]
fn a_hundred_dead_hosts_do_not_keep_a_new_one_from_starting() {
    let mut hosts = hosts_with(50, 2_048);
    for number in 0..100 {
        fill(&mut hosts, &host(number), NOW);
        start_all(&mut hosts);
        fill(&mut hosts, &host(number), NOW);
    }
    assert_eq!(start_all(&mut hosts), [], "all dead hosts have all they may have");
    let (_, waiting) = fill(&mut hosts, &host(100), NOW);
    assert!(waiting >= 1);
    assert_eq!(start_all(&mut hosts), [host(100)]);
    hosts.ended(&host(100), false, None);
    fill(&mut hosts, &host(100), NOW);
    assert_eq!(start_all(&mut hosts), [host(100)], "and one after the other");

    time_out_once(&mut hosts);
    fill(&mut hosts, &host(100), NOW);
    let started = start_all(&mut hosts).iter().filter(|started| **started == host(100)).count();
    assert!(started >= 10, "then the dead hosts share what they had: {started}");
}

/// All attempts of the dead hosts end, and the next ones begin.
fn time_out_once(hosts: &mut Hosts) {
    let begun: Vec<usize> = (0..100).map(|number| hosts.by_host[&host(number)].begun).collect();
    for (number, begun) in begun.into_iter().enumerate() {
        for _ in 0..begun {
            hosts.ended(&host(number), false, None);
            start_all(hosts);
        }
    }
}

#[test]
fn two_hosts_take_turns() {
    let mut hosts = hosts_with(50, 2_048);
    for number in 0..6 {
        for of in [0, 1] {
            assert_eq!(hosts.offer(&host(of), NOW), Offer::Ready);
            // Each host's own order is the order of arrival.
            hosts.enqueue(&host(of), entity(number), NOW);
        }
    }
    for number in 0..6 {
        for of in [0, 1] {
            assert_eq!(hosts.start_next(), Some(Turn { host: host(of), entity: entity(number), begins: true }));
        }
    }
    assert_eq!(hosts.start_next(), None);
}

#[test]
fn a_host_that_came_first_with_many_does_not_go_first_with_all() {
    let mut hosts = hosts_with(50, 2_048);
    fill(&mut hosts, &host(0), NOW);
    hosts.offer(&host(1), NOW);
    hosts.enqueue(&host(1), entity(0), NOW);
    let started: Vec<_> = (0..2).filter_map(|_| hosts.start_next()).map(|turn| turn.host).collect();
    assert_eq!(started, [host(0), host(1)]);
}

#[test]
fn a_full_queue_that_moves_is_waited_for() {
    let mut hosts = hosts_with(50, 2_048);
    assert_eq!(fill(&mut hosts, &host(0), NOW), (Offer::Wait, WAITING_PER_HOST));
    assert_eq!(hosts.offer(&host(0), NOW + PATIENCE), Offer::Wait);
    start_all(&mut hosts);
    let later = NOW + PATIENCE / 2;
    assert_eq!(fill(&mut hosts, &host(0), later), (Offer::Wait, 50), "what has begun makes room");
}

#[test]
fn a_full_queue_that_stands_is_parked_until_it_was_read_to_its_end() {
    let mut hosts = hosts_with(50, 2_048);
    let late = NOW + PATIENCE + Duration::from_millis(1);
    fill(&mut hosts, &host(0), NOW);
    assert_eq!(hosts.offer(&host(0), late), Offer::Park);
    assert!(hosts.wants_load(&host(0)).is_none(), "there is no room yet");
    for _ in 0..WAITING_PER_HOST {
        start_all(&mut hosts);
        hosts.ended(&host(0), false, None);
    }
    assert_eq!(hosts.offer(&host(0), late), Offer::Park, "those in the store come first");
    assert!(hosts.wants_load(&host(0)).is_some());
    assert!(hosts.wants_load(&host(0)).is_none(), "it is being read");
    hosts.enqueue_loaded(&host(0), entity(0), late);
    hosts.loaded(&host(0), true);
    assert!(hosts.wants_load(&host(0)).is_some(), "it goes on");
    hosts.loaded(&host(0), false);
    assert_eq!(hosts.offer(&host(0), late), Offer::Ready);
}

#[test]
fn what_is_parked_while_the_parked_are_read_is_read_too() {
    let ways: [fn(&mut Hosts); 2] =
        [|hosts| hosts.note_parked(&host(0)), |hosts| assert_eq!(hosts.offer(&host(0), NOW), Offer::Park)];
    for park in ways {
        for more in [false, true] {
            let mut hosts = hosts_with(50, 2_048);
            hosts.note_parked(&host(0));
            assert!(hosts.wants_load(&host(0)).is_some());
            park(&mut hosts);
            hosts.loaded(&host(0), more);
            assert!(hosts.wants_load(&host(0)).is_some(), "the read may have been too early");
            hosts.loaded(&host(0), false);
            assert!(hosts.by_host.is_empty());
        }
    }
}

#[test]
fn when_memory_is_full_events_are_parked_at_once() {
    let mut hosts = hosts_with(50, 2_048);
    for number in 0..WAITING_IN_ALL {
        assert_eq!(hosts.offer(&host(number), NOW), Offer::Ready, "{number}");
    }
    assert_eq!(hosts.offer(&host(WAITING_IN_ALL), NOW), Offer::Park);
    assert!(!hosts.by_host.contains_key(&host(WAITING_IN_ALL)), "nothing of it is kept");
}

#[test]
fn the_next_of_a_line_is_taken_in_as_long_as_its_host_moves() {
    let mut hosts = hosts_with(50, 2_048);
    assert!(hosts.enqueue_next_in_line(&host(1), entity(0), NOW));
    fill(&mut hosts, &host(0), NOW);
    assert!(hosts.enqueue_next_in_line(&host(0), entity(1), NOW), "beyond the ceiling");
    assert!(!hosts.enqueue_next_in_line(&host(0), entity(2), NOW + 2 * PATIENCE));
    assert_eq!(hosts.by_host[&host(0)].waiting.len(), WAITING_PER_HOST + 1);
}

#[test]
fn a_place_that_is_not_needed_leaves_nothing_behind() {
    let mut hosts = hosts_with(50, 2_048);
    assert_eq!(hosts.offer(&host(0), NOW), Offer::Ready);
    hosts.release_place(&host(0));
    assert!(hosts.by_host.is_empty());
    assert_eq!(hosts.waiting, 0);
    assert!(hosts.wants_load(&host(0)).is_none());
}

/// A host that has answered ten requests, each within this time, and has one more attempt begun.
fn answered(took: Duration) -> Hosts {
    let mut hosts = hosts_with(50, 2_048);
    (0..11).for_each(|number| hosts.enqueue_loaded(&host(0), entity(number), NOW));
    assert_eq!(start_all(&mut hosts).len(), 11);
    for _ in 0..10 {
        assert!(hosts.send(&host(0)));
        hosts.ended(&host(0), true, Some(took));
    }
    hosts
}

const FAST: Duration = Duration::from_millis(10);
const SLOW: Duration = Duration::from_secs(1);

#[test]
fn a_fast_host_has_more_begun_than_it_may_be_sent() {
    for (took, begun) in [(FAST, 150), (SLOW, 51)] {
        let mut hosts = answered(took);
        (0..300).for_each(|number| hosts.enqueue_loaded(&host(0), entity(number), NOW));
        start_all(&mut hosts);
        assert_eq!(hosts.most_begun(), begun, "{took:?}");
        assert_eq!((0..300).filter(|_| hosts.send(&host(0))).count(), 50);
        assert_eq!(hosts.unsent(), begun - 50);
        hosts.ended(&host(0), true, None);
        assert!(hosts.send(&host(0)) && !hosts.send(&host(0)), "one ends, one more is sent");
    }
}

#[test]
fn nothing_is_begun_ahead_while_the_share_becomes_smaller() {
    let mut hosts = answered(FAST);
    (0..300).for_each(|number| hosts.enqueue_loaded(&host(0), entity(number), NOW));
    start_all(&mut hosts);
    hosts.set_per_host(20);
    assert_eq!((0..300).filter(|_| hosts.send(&host(0))).count(), 50, "what is begun is sent");
    for _ in 0..130 {
        hosts.ended(&host(0), true, Some(FAST));
        hosts.send(&host(0));
        assert_eq!(start_all(&mut hosts), []);
    }
    hosts.ended(&host(0), true, Some(FAST));
    assert_eq!((start_all(&mut hosts).len(), hosts.most_begun()), (1, 20));
    hosts.set_share(20);
    assert_eq!(start_all(&mut hosts).len(), 40, "with the smaller share, there is a lead again");
}

#[test]
fn half_of_the_pool_is_not_for_what_is_begun_ahead() {
    let mut hosts = hosts_with(50, 500);
    for number in 0..20 {
        (0..300).for_each(|event| hosts.enqueue_loaded(&host(number), entity(event), NOW));
        hosts.by_host.get_mut(&host(number)).unwrap().pace.note(Duration::from_millis(1));
    }
    start_all(&mut hosts);
    let begun: Vec<usize> = (0..20).map(|number| hosts.by_host[&host(number)].begun).collect();
    assert!(begun.iter().all(|begun| *begun >= 12), "each has its part: {begun:?}");
    assert!((250..=500).contains(&hosts.begun), "{begun:?}");
}

#[test]
fn the_first_attempt_begins_in_its_place_unless_others_wait() {
    let mut hosts = hosts_with(2, 2_048);
    for begins in [true, true, false] {
        assert_eq!(hosts.offer(&host(0), NOW), Offer::Ready);
        assert_eq!(hosts.begin_in_place(&host(0)), begins);
    }
    hosts.enqueue(&host(0), entity(0), NOW);
    hosts.ended(&host(0), false, None);
    assert_eq!(hosts.offer(&host(0), NOW), Offer::Ready);
    assert!(!hosts.begin_in_place(&host(0)), "it is the other's turn");
    assert_eq!(start_all(&mut hosts).len(), 1);
    hosts.close();
    hosts.ended(&host(0), false, None);
    assert!(!hosts.begin_in_place(&host(0)), "the worker stops");
}

#[test]
fn the_next_of_a_line_begins_with_the_end_before_it_unless_others_wait() {
    let mut hosts = hosts_with(2, 2_048);
    assert!(hosts.begin_next_in_line(&host(0)) && hosts.begin_next_in_line(&host(0)));
    assert!(!hosts.begin_next_in_line(&host(0)), "it has all that it may have");
    hosts.ended(&host(0), false, None);
    hosts.note_parked(&host(0));
    assert!(!hosts.begin_next_in_line(&host(0)), "those in the store come first");
    hosts.wants_load(&host(0)).expect("they are read");
    hosts.enqueue_loaded(&host(0), entity(0), NOW);
    hosts.loaded(&host(0), false);
    assert!(!hosts.begin_next_in_line(&host(0)), "it is the other's turn");
    assert_eq!(start_all(&mut hosts), [host(0)]);
    hosts.close();
    assert!(!hosts.begin_next_in_line(&host(1)), "the worker stops");
    assert!(!hosts.by_host.contains_key(&host(1)), "nothing of it is kept");
}

#[test]
fn newcomers_wait_for_a_fast_host_until_there_is_room_for_many() {
    let mut hosts = answered(FAST);
    let mut begun = 0;
    while hosts.offer(&host(0), NOW) == Offer::Ready {
        assert!(hosts.begin_in_place(&host(0)));
        begun += 1;
    }
    assert_eq!(begun, 149);
    let room: Vec<bool> = (0..38).map(|_| hosts.ended(&host(0), false, Some(FAST))).collect();
    assert_eq!(room.iter().position(|room| *room), Some(36), "a quarter of 150 has ended");
    assert_eq!(hosts.offer(&host(0), NOW), Offer::Ready);
}

#[test]
fn newcomers_do_not_wait_for_a_host_that_was_fast() {
    let mut hosts = answered(FAST);
    while hosts.offer(&host(0), NOW) == Offer::Ready {
        assert!(hosts.begin_in_place(&host(0)));
    }
    assert_eq!(hosts.offer(&host(0), NOW + PATIENCE), Offer::Wait);
    let late = NOW + PATIENCE + Duration::from_millis(1);
    assert_eq!(fill(&mut hosts, &host(0), late), (Offer::Wait, WAITING_PER_HOST), "its queue fills");
    assert_eq!(hosts.offer(&host(0), late + 2 * PATIENCE), Offer::Park);
}

#[test]
fn a_destination_of_its_own_has_its_own_limit() {
    let mut destinations = Destinations::new(destination());
    destinations.add_pattern("host-1", Destination { connections: Some(4), ..destination() });
    let mut hosts = Hosts::new(50, 2_048, Arc::new(destinations));
    hosts.set_share(25);
    for number in [0, 1] {
        fill(&mut hosts, &host(number), NOW);
    }
    let started = start_all(&mut hosts);
    let of = |number| started.iter().filter(|begun| **begun == host(number)).count();
    assert_eq!((of(0), of(1)), (25, 2), "half of the cap gives half of each limit");
    let sent = (0..4).filter(|_| hosts.send(&host(1))).count();
    assert_eq!(sent, 2);
    assert_eq!(hosts.most_begun(), 25);
}

#[test]
fn settings_that_change_hold_for_hosts_at_work() {
    let mut hosts = hosts_with(50, 2_048);
    fill(&mut hosts, &host(1), NOW);
    assert_eq!(start_all(&mut hosts).len(), 50);
    let mut destinations = Destinations::new(destination());
    destinations.add_pattern("host-1", Destination { connections: Some(60), ..destination() });
    hosts.follow(&Arc::new(destinations));
    assert_eq!(start_all(&mut hosts).len(), 10);
    hosts.follow(&Arc::new(Destinations::new(destination())));
    assert_eq!(start_all(&mut hosts).len(), 0, "what is open beyond a smaller limit runs out");
}

#[test]
fn a_host_with_a_rate_waits_for_its_time_and_holds_up_nobody() {
    let mut destinations = Destinations::new(destination());
    destinations.add_pattern("host-1", Destination { rate: Some(10.0), ..destination() });
    let mut hosts = Hosts::new(50, 2_048, Arc::new(destinations));
    hosts.set_share(50);
    let begun = |hosts: &mut Hosts| {
        let started = start_all(hosts);
        started.iter().filter(|begun| **begun == host(1)).for_each(|begun| {
            hosts.ended(begun, false, None);
        });
        started.len()
    };
    hosts.at(NOW);
    fill(&mut hosts, &host(1), NOW);
    assert_eq!(begun(&mut hosts), 2, "one, and one ahead of its time");
    assert!(hosts.are_throttled());
    fill(&mut hosts, &host(2), NOW);
    assert_eq!(begun(&mut hosts), 50, "the other host goes on");
    for second in 1..=3 {
        let before: usize = (0..50)
            .map(|look| {
                hosts.at(NOW + Duration::from_secs(second - 1) + Duration::from_millis(20 * (look + 1)));
                begun(&mut hosts)
            })
            .sum();
        assert_eq!(before, 10, "in second {second}");
    }
}
