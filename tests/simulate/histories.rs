//! Histories that once broke a promise: what was mended stays mended.

use std::time::Duration;

use onceward::domain::admission::FirstSequence;
use onceward::simulator::run;
use onceward::simulator::scenario::{Act, Mood, Scenario, Step};

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn publish(at: f64, entity: usize, host: usize, late: bool) -> Step {
    step(at, Act::Publish { entity, host, late })
}

fn step(at: f64, act: Act) -> Step {
    Step { at: seconds(at), act }
}

/// Two workers, none of whose settings is special.
fn cluster(seed: u64, steps: Vec<Step>) -> Scenario {
    Scenario {
        seed,
        workers: 2,
        partitions: 4,
        cap: 5,
        hosts: 2,
        max_attempts: 3,
        hold: false,
        first: FirstSequence::One,
        steps,
        without: None,
    }
}

/// One worker records an event of a line that is another's; the next one comes by the line's own queue, and its lane knows
/// nothing of the first.
#[test]
fn an_event_that_came_in_elsewhere_is_not_overtaken() {
    let steps = vec![
        publish(1.176, 0, 1, false),
        publish(2.398, 2, 1, false),
        publish(5.601, 3, 2, false),
        publish(5.980, 4, 0, false),
        step(6.434, Act::Crash { worker: 3, back: seconds(19.101_329) }),
        publish(7.099, 4, 2, true),
        step(7.156, Act::Crash { worker: 1, back: seconds(0.546_357) }),
        publish(7.432, 2, 2, true),
        publish(7.461, 5, 1, false),
        step(12.671, Act::StoreDown { lasts: seconds(10.852_659) }),
        publish(13.308, 1, 1, false),
        publish(13.965, 3, 1, false),
        publish(14.965, 1, 2, false),
        publish(16.015, 0, 0, false),
        publish(16.032, 5, 2, false),
        publish(16.770, 5, 1, false),
        step(17.404, Act::RestartBroker { renumbers: true, disorders: false }),
        publish(19.161, 4, 0, false),
        publish(19.510, 4, 2, false),
        publish(20.181, 0, 1, false),
        publish(23.366, 0, 1, false),
    ];
    assert_eq!(run(&cluster(2_136, steps)).broken, None);
}

/// A dead letter comes back while the next event of its entity is in flight, and that attempt fails: the redriven event goes
/// first.
#[test]
fn an_event_that_is_redriven_while_the_next_one_is_in_flight_is_in_somebodys_hand() {
    let steps = vec![
        step(31.328, Act::Pause { worker: 0, lasts: seconds(7.893_371) }),
        step(36.244, Act::Receiver { host: 2, mood: Mood::Silent, lasts: seconds(19.163_846) }),
        publish(49.295, 4, 0, true),
        publish(50.222, 4, 0, false),
        step(55.999, Act::SendBack { which: 9 }),
    ];
    let history = Scenario { workers: 1, cap: 3, max_attempts: 2, ..cluster(2_078, steps) };
    assert_eq!(run(&history).broken, None);
}

/// A worker that loses a partition has no share of the cap any more, so that nobody is sent from its queues.
#[test]
fn hosts_forget_what_is_another_workers() {
    let steps = vec![
        publish(0.546, 0, 1, false),
        publish(0.552, 4, 2, false),
        publish(3.314, 0, 2, true),
        publish(3.813, 3, 0, true),
        publish(8.044, 4, 2, true),
        publish(10.520, 3, 2, false),
        publish(11.145, 3, 0, false),
        step(13.014, Act::Crash { worker: 3, back: seconds(1.221_89) }),
        step(45.454, Act::CutStore { worker: 0, lasts: seconds(15.915_114) }),
    ];
    let history = Scenario { partitions: 2, cap: 4, max_attempts: 2, hold: true, ..cluster(201, steps) };
    assert_eq!(run(&history).broken, None);
}

/// An entity has its turn at a host whose gate is shut while its attempt is under way: what has begun is not parked.
#[test]
fn what_has_begun_is_in_somebodys_hand_also_when_its_gate_shuts() {
    let lived = run(&Scenario::of(1_026_410));
    assert_eq!(lived.broken, None);
}

/// A host is paused while events of it are known to wait in the store, and nothing of it is in memory.
#[test]
fn nothing_is_kept_of_a_host_that_was_paused_when_its_events_waited_in_the_store() {
    let steps = vec![
        step(25.029, Act::PauseHost { host: 0, lasts: seconds(18.675_406) }),
        publish(38.826, 4, 0, true),
        publish(41.106, 6, 2, false),
        step(42.069, Act::Receiver { host: 0, mood: Mood::Silent, lasts: seconds(10.386_25) }),
        publish(50.051, 7, 2, false),
        step(50.686, Act::Pause { worker: 0, lasts: seconds(14.527_632) }),
    ];
    let scenario = Scenario { workers: 3, partitions: 3, cap: 2, hosts: 1, ..cluster(30_008_417, steps) };
    assert_eq!(run(&scenario).broken, None);
}
