//! A worker's attempts, and the receivers that they reach.

use std::time::Duration;

use super::rules::Rule;
use super::scenario::{Mood, below};
use super::worker::{Sending, Worker};
use super::world::{TIMEOUT, Timer, World};
use crate::domain::event::Host;
use crate::domain::lease::may_send;
use crate::domain::verdict::{NoResponse, NotSent, Outcome, Phase};
use crate::engine::input::{Attempt, Ended, Input};
use crate::lease::Held;

/// How often an attempt looks whether the lease covers it.
const LOOKS: Duration = Duration::from_millis(50);

impl World {
    pub(super) fn begin_attempt(&mut self, worker: &mut Worker, attempt: Attempt<Held>) {
        let Attempt { candidate, held, .. } = attempt;
        worker.last_attempt += 1;
        let (number, lapses) = (worker.last_attempt, held.lapses());
        worker.attempts.insert(number, Sending { candidate, held, lapses, begun: None });
        let latency = self.some(10, 2_000);
        self.after(worker, latency, Timer::Cover(number));
    }

    /// An attempt starts only if its deadline lies within the lease.
    pub(super) fn cover(&mut self, worker: &mut Worker, number: u64) {
        let Some(sending) = worker.attempts.get_mut(&number) else { return };
        let begun = worker.clock.shows(self.now);
        let deadline = begun + TIMEOUT;
        let (is_lost, lapses) = (sending.held.is_lost(), sending.held.lapses());
        let covers = sending.held.covers(deadline) || (!self.scenario.keeps(Rule::DeadlineWithinLease) && !is_lost);
        if covers {
            if lapses != sending.lapses && self.scenario.keeps(Rule::LapsedIsNotSent) {
                return self.end(worker, number, Some(Outcome::NotSent(NotSent::NotAllowed)));
            }
            sending.begun = Some((begun, deadline));
            let latency = self.some(10, 3_000);
            return self.after(worker, latency, Timer::Send(number));
        }
        if is_lost {
            return self.end(worker, number, None);
        }
        self.after_own(worker, LOOKS, Timer::Cover(number));
    }

    /// Bytes go out. A process that was paused meanwhile looks at the clock again.
    pub(super) fn send(&mut self, worker: &mut Worker, number: u64) {
        let Some(sending) = worker.attempts.get(&number) else { return };
        let Some((_, deadline)) = sending.begun else { return };
        let now = worker.clock.shows(self.now);
        if !may_send(now, deadline) && self.keeps(Rule::LookBeforeSending) {
            return self.end(worker, number, Some(Outcome::NoResponse(NoResponse::Late(TIMEOUT, Phase::Waiting))));
        }
        let left = worker.clock.takes(deadline.saturating_sub(now));
        let (id, attempt, event) = (sending.candidate.id, sending.candidate.attempts, sending.candidate.event.clone());
        if self.is_down(&event.host) {
            let takes = self.some(100, 3_000);
            let refused = Outcome::NoResponse(NoResponse::Connect(String::new()));
            return self.after(worker, takes, Timer::Answered(number, refused));
        }
        let (answer, takes) = self.receive(&event.host);
        let until = self.now + takes.min(left);
        let who = worker.who();
        self.promises.sent(&self.store, (self.now, until), who, (id, attempt), &event);
        match answer {
            Some(status) if takes < left => {
                let answered = Outcome::Response { status, retry_after: None, excerpt: String::new() };
                self.promises.will_answer(id, status, self.now + takes);
                self.after(worker, takes, Timer::Answered(number, answered));
            }
            _ => self.after(worker, left, Timer::TooLate(number)),
        }
    }

    /// Whether a host refuses connections.
    fn is_down(&self, host: &Host) -> bool {
        let mood = self.moods.get(host_number(host));
        mood.is_some_and(|(mood, until)| *mood == Mood::Down && *until > self.now)
    }

    /// What a receiver answers, and how long that takes.
    fn receive(&mut self, host: &Host) -> (Option<u16>, Duration) {
        let number = host_number(host);
        let (mood, until) = self.moods.get(number).copied().unwrap_or((Mood::Well, Duration::ZERO));
        let mood = if until > self.now { mood } else { Mood::Well };
        match mood {
            Mood::Well => (Some(200), self.some(1_000, 40_000)),
            Mood::Failing => (Some(500), self.some(1_000, 10_000)),
            Mood::Down | Mood::Silent => (None, TIMEOUT * 4),
            Mood::Slow => (Some(200), self.some(300_000, 1_900_000)),
            Mood::Erratic => {
                let answers = [Some(200), Some(500), Some(503), Some(410), None];
                let answer = answers[below(&mut self.chance, 5)];
                (answer, self.some(1_000, 2_500_000))
            }
        }
    }

    /// An attempt has ended.
    pub(super) fn end(&mut self, worker: &mut Worker, number: u64, outcome: Option<Outcome>) {
        let Some(Sending { candidate, held, begun, .. }) = worker.attempts.remove(&number) else { return };
        let now = worker.clock.shows(self.now);
        let took = begun.map(|(begun, _)| now.saturating_sub(begun));
        self.feed(worker, Input::Ended(vec![Ended { candidate, held, outcome, took, destination: None }]));
    }
}

fn host_number(host: &Host) -> usize {
    host.as_str().trim_start_matches("host-").trim_end_matches(":80").parse().unwrap_or(0)
}
