//! A worker's writer: one transaction at a time, and the doubt about one whose answer is lost.

use std::time::Duration;

use super::messages::{Reply, Request};
use super::rules::Rule;
use super::worker::{Worker, Writing};
use super::world::{Timer, World};
use crate::domain::volume::Volume;
use crate::engine::input::{Effects, Input, Note};
use crate::handoff::{Command, Written};
use crate::lease::{Held, Lease};
use crate::writer::batch::Batch;
use crate::writer::found::{Found, report};
use std::sync::Arc;

/// Commands that one transaction takes.
const BATCH: usize = 64;

impl World {
    /// The engine is told, and what it wants is done.
    pub(super) fn feed(&mut self, worker: &mut Worker, input: Input<Arc<Lease>>) {
        let effects = worker.engine.handle(input, worker.clock.shows(self.now));
        self.carry_out(worker, effects);
    }

    fn carry_out(&mut self, worker: &mut Worker, effects: Effects<Held>) {
        let Effects { commands, attempts, wakes, dead_letters, admitted, operated, refused, gates, notes, look_again } =
            effects;

        worker.commands.extend(commands);
        if !gates.is_empty() {
            worker.gate_changes.extend(gates);
            self.ask_for_gates(worker);
        }
        for attempt in attempts {
            self.check_gate(worker, &attempt);
            self.begin_attempt(worker, attempt);
        }
        for wake in wakes {
            self.send_token(&wake);
        }
        for letter in dead_letters {
            self.announce(worker, letter.id, letter.held);
        }
        for (ticket, outcomes) in admitted {
            self.admitted(worker, ticket, outcomes);
        }
        for ticket in operated {
            self.operated(worker, ticket);
        }
        for ticket in refused {
            self.refused(worker, ticket);
        }
        for note in notes {
            if let Note::Rescued { id, adrift, .. } = note {
                self.promises.rescued(id, adrift);
            }
        }
        if look_again && !worker.looks_again {
            worker.looks_again = true;
            self.after_own(worker, Duration::from_millis(20), Timer::Look);
        }
        self.write(worker);
    }

    pub(super) fn look(&mut self, worker: &mut Worker) {
        worker.looks_again = false;
        self.feed(worker, Input::Look);
    }

    /// The next transaction begins, if none is under way.
    pub(super) fn write(&mut self, worker: &mut Worker) {
        if worker.writing.is_some() || worker.commands.is_empty() {
            return;
        }
        let most = worker.commands.len().min(BATCH);
        let commands: Vec<Command> = worker.commands.drain(..most).collect();
        let (batch, rest) = Batch::gather(commands, Volume::new(Duration::from_secs(1)));
        for command in rest.into_iter().rev() {
            worker.commands.push_front(command);
        }
        worker.writing = Some(Writing { batch, number: 0, told: Vec::new(), doubt: None });
        self.try_commit(worker);
    }

    fn try_commit(&mut self, worker: &mut Worker) {
        let Some(writing) = &mut worker.writing else { return };
        writing.told.extend(writing.batch.drop_lost());
        if writing.batch.held().next().is_none() {
            // Nothing is ours any more.
            return self.done(worker, Found::default());
        }
        worker.commits += 1;
        writing.number = worker.commits;
        let number = writing.number;
        self.ask(worker, Request::Commit(number));
    }

    /// The store has answered.
    pub(super) fn answered(&mut self, worker: &mut Worker, generation: u64, reply: Reply) {
        let is_lost = self.loses_answer(worker, generation);
        match reply {
            Reply::Done(found) if is_lost => self.lost(worker, Some(found)),
            Reply::Done(found) => self.done(worker, *found),
            Reply::Fenced(_) | Reply::WasCommitted(_) if is_lost => self.lost(worker, None),
            Reply::Fenced(lost) => {
                lost.iter().for_each(Held::lose);
                self.look_now(worker);
                self.try_commit(worker);
            }
            Reply::Lost(found) => self.lost(worker, found),
            Reply::WasCommitted(was) => {
                let doubt = worker.writing.as_mut().and_then(|writing| writing.doubt.take());
                match doubt.filter(|_| was) {
                    Some(found) => self.done(worker, *found),
                    None => self.try_commit(worker),
                }
            }
            Reply::Member(..) | Reply::Sweep(_) if is_lost => {}
            Reply::Member(turn, answer) => self.membership_answered(worker, turn, answer),
            Reply::Sweep(swept) => self.swept(worker, *swept),
            Reply::Gates(told) => self.gates_told(worker, told.filter(|_| !is_lost)),
            Reply::Letter(_, id, _) | Reply::Marked(id) | Reply::NoLetter(id) if is_lost => {
                worker.letters_under_way.remove(&id);
            }
            Reply::Letter(letter, id, held) => self.publish_letter(worker, &letter, id, &held),
            Reply::Marked(id) | Reply::NoLetter(id) => {
                worker.letters_under_way.remove(&id);
            }
        }
    }

    /// The connection broke. As long as nobody knows whether the commit took place, its batch stays as it is.
    fn lost(&mut self, worker: &mut Worker, found: Option<Box<Found>>) {
        let Some(writing) = &mut worker.writing else { return };
        if !self.keeps(Rule::AskWhenInDoubt) {
            return self.try_commit(worker);
        }
        if found.is_some() {
            writing.doubt = found;
        }
        if writing.doubt.is_some() {
            let number = writing.number;
            self.ask(worker, Request::WasCommitted(number));
        } else {
            self.try_commit(worker);
        }
    }

    fn done(&mut self, worker: &mut Worker, found: Found) {
        let Some(Writing { batch, told, .. }) = worker.writing.take() else { return };
        let mut results = told;
        results.extend(report(batch, found));
        if !self.keeps(Rule::ResultsInOrder) {
            results = out_of_order(results, &mut worker.kept_back);
        }
        self.feed(worker, Input::Written(results));
    }
}

/// Results of reads come a commit later than the others.
fn out_of_order(results: Vec<Written>, kept_back: &mut Vec<Written>) -> Vec<Written> {
    let (later, mut now): (Vec<_>, Vec<_>) =
        results.into_iter().partition(|result| matches!(result, Written::Front(_)));
    now.splice(0..0, std::mem::replace(kept_back, later));
    now
}
