//! Whatever happens: the caps hold, those who wait have their turn, and nothing is kept of a host without work.

use proptest::prelude::*;

use super::*;

/// What a worker does to a host, as far as the rules allow it at that moment.
#[derive(Clone, Copy, Debug)]
enum Step {
    Offer,
    Enqueue,
    Release,
    NextInLine,
    StartNext,
    BeginInPlace,
    BeginNextInLine,
    Send,
    End { took: Option<Duration> },
    NoteParked,
    WantLoad,
    Load { events: usize, more: bool },
    LetTimePass,
}

fn step() -> impl Strategy<Value = (usize, Step)> {
    let step = prop_oneof![
        6 => Just(Step::Offer),
        5 => Just(Step::Enqueue),
        1 => Just(Step::Release),
        2 => Just(Step::NextInLine),
        8 => Just(Step::StartNext),
        3 => Just(Step::BeginInPlace),
        3 => Just(Step::BeginNextInLine),
        6 => Just(Step::Send),
        5 => prop::option::of(prop_oneof![Just(FAST), Just(SLOW)]).prop_map(|took| Step::End { took }),
        1 => Just(Step::NoteParked),
        2 => Just(Step::WantLoad),
        2 => (0usize..4, any::<bool>()).prop_map(|(events, more)| Step::Load { events, more }),
        1 => Just(Step::LetTimePass),
    ];
    (0usize..4, step)
}

#[derive(Default)]
struct Expected {
    reserved: usize,
    waiting: VecDeque<Entity>,
    begun: usize,
    sending: usize,
    parked: bool,
    loading: bool,
}

impl Expected {
    /// An attempt begins out of turn.
    fn begin(&mut self) {
        assert!(self.waiting.is_empty(), "those that wait go first");
        self.begun += 1;
    }
}

/// The counts as they have to be, beside those that are.
struct World {
    hosts: Hosts,
    expected: [Expected; 4],
    now: Duration,
    events: usize,
}

impl World {
    fn new(per_host: usize, in_all: usize) -> Self {
        Self { hosts: super::hosts_with(per_host, in_all), expected: Default::default(), now: NOW, events: 0 }
    }

    fn step(&mut self, number: usize, step: Step) {
        let host = host(number);
        let expected = &mut self.expected[number];
        match step {
            Step::Offer => match self.hosts.offer(&host, self.now) {
                Offer::Ready => expected.reserved += 1,
                Offer::Wait => {}
                Offer::Park => expected.parked |= !expected.waiting.is_empty() || expected.loading,
            },
            Step::Enqueue if expected.reserved > 0 => {
                expected.reserved -= 1;
                let entity = self.new_event(number);
                self.hosts.enqueue(&host, entity, self.now);
            }
            Step::Release if expected.reserved > 0 => {
                expected.reserved -= 1;
                self.hosts.release_place(&host);
            }
            Step::NextInLine => self.next_in_line(number),
            Step::StartNext => drop(self.start_next()),
            Step::BeginInPlace if expected.reserved > 0 => {
                if self.hosts.begin_in_place(&host) {
                    expected.reserved -= 1;
                    expected.begin();
                }
            }
            Step::BeginNextInLine => {
                if self.hosts.begin_next_in_line(&host) {
                    assert!(!expected.parked, "those in the store go first");
                    expected.begin();
                }
            }
            Step::Send if expected.begun > expected.sending => {
                let sent = self.hosts.send(&host);
                assert_eq!(sent, expected.sending < self.hosts.share, "the cap");
                expected.sending += usize::from(sent);
            }
            Step::End { took } if expected.begun > 0 => {
                let sent = expected.sending > 0;
                expected.begun -= 1;
                expected.sending -= usize::from(sent);
                self.hosts.ended(&host, sent, took.filter(|_| sent));
            }
            Step::NoteParked => {
                expected.parked = true;
                self.hosts.note_parked(&host);
            }
            Step::WantLoad => {
                if self.hosts.wants_load(&host).is_some() {
                    assert!(expected.parked && !expected.loading);
                    (expected.parked, expected.loading) = (false, true);
                } else if !self.hosts.by_host.contains_key(&host) {
                    expected.parked = false;
                }
            }
            Step::Load { events, more } if expected.loading => {
                (expected.parked, expected.loading) = (expected.parked || more, false);
                for _ in 0..events {
                    let entity = self.new_event(number);
                    self.hosts.enqueue_loaded(&host, entity, self.now);
                }
                self.hosts.loaded(&host, more);
            }
            Step::LetTimePass => self.now += PATIENCE,
            Step::Enqueue | Step::Release | Step::BeginInPlace | Step::Send | Step::End { .. } | Step::Load { .. } => {}
        }
        self.check();
    }

    fn next_in_line(&mut self, number: usize) {
        let entity = self.new_event(number);
        if !self.hosts.enqueue_next_in_line(&host(number), entity, self.now) {
            let expected = &mut self.expected[number];
            expected.waiting.pop_back();
            expected.parked |= !expected.waiting.is_empty() || expected.loading;
        }
    }

    fn new_event(&mut self, number: usize) -> Entity {
        self.events += 1;
        let entity = entity(self.events);
        self.expected[number].waiting.push_back(entity.clone());
        entity
    }

    fn start_next(&mut self) -> Option<()> {
        let Some(Turn { host: started, entity, .. }) = self.hosts.start_next() else {
            let full = self.hosts.begun == self.hosts.in_all;
            let all_busy = self.expected.iter().all(|host| host.waiting.is_empty() || host.begun > 0);
            assert!(full || all_busy, "a host waits for nothing");
            return None;
        };
        let number = (0..4).find(|number| host(*number) == started).expect("a host of ours");
        let expected = &mut self.expected[number];
        assert_eq!(expected.waiting.pop_front(), Some(entity), "first come, first served");
        expected.begun += 1;
        Some(())
    }

    fn check(&self) {
        let begun: usize = self.expected.iter().map(|expected| expected.begun).sum();
        let sending: usize = self.expected.iter().map(|expected| expected.sending).sum();
        assert_eq!((self.hosts.begun, self.hosts.unsent()), (begun, begun - sending));
        assert!(begun <= self.hosts.in_all, "{begun} in all");
        let waiting: usize = self.expected.iter().map(|expected| expected.waiting.len() + expected.reserved).sum();
        assert_eq!(self.hosts.waiting, waiting);
        for (number, expected) in self.expected.iter().enumerate() {
            assert!(expected.sending <= self.hosts.share, "{} to one host", expected.sending);
            assert!(expected.begun <= 4 * self.hosts.per_host, "{} begun for one host", expected.begun);
            let idle = State::default();
            let state = self.hosts.by_host.get(&host(number)).unwrap_or(&idle);
            let counts =
                (state.reserved, state.waiting.len(), state.begun, state.sending, state.reading != Reading::No);
            let right = (expected.reserved, expected.waiting.len(), expected.begun, expected.sending, expected.loading);
            assert_eq!(counts, right, "host {number}");
        }
    }

    /// Everything ends: what waits is sent, what is parked is read, and then nothing is left.
    fn bring_to_the_end(&mut self) {
        for number in 0..4 {
            while self.expected[number].reserved > 0 {
                self.step(number, Step::Release);
            }
            self.step(number, Step::Load { events: 1, more: false });
        }
        while self.start_next().is_some() || self.expected.iter().any(|host| host.begun > 0) {
            (0..4).for_each(|number| self.step(number, Step::End { took: None }));
        }
        for number in 0..4 {
            let parked = self.expected[number].parked;
            self.step(number, Step::WantLoad);
            assert_eq!(self.expected[number].loading, parked, "parked events are read");
            self.step(number, Step::Load { events: 0, more: false });
        }
        assert!(self.hosts.by_host.is_empty() && self.hosts.turns.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_caps_hold_and_nobody_is_stuck_whatever_happens(
        per_host in 1usize..4,
        in_all in 1usize..20,
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(per_host, in_all);
        for (number, step) in steps {
            world.step(number, step);
        }
        world.bring_to_the_end();
    }
}
