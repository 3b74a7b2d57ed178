//! A transaction of the writer.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use uuid::Uuid;

use super::{Final, Kept, Letter, Open, Rule, Store};
use crate::domain::admission::{Admission, Line, Recorded, admit};
use crate::domain::candidate::{Candidate, Token};
use crate::domain::event::{Entity, EventId, Host, IdempotencyKey, Partition, Sequence};
use crate::domain::lease::is_current;
use crate::domain::lifecycle::{Change, State};
use crate::domain::operator::{Decided, Verb};
use crate::domain::poison::Poison;
use crate::domain::verdict::{Decision, Outcome};
use crate::domain::volume::Volume;
use crate::engine::command::{
    Admitted, Confirmed, Front, Gathered, Place, Ready, Suspect, Suspicion, Unpark, Which, Woken,
};
use crate::handoff::{Arrival, Command, Settlement, Written};
use crate::lease::Held;
use crate::store::line::LINE_READ;
use crate::store::position::UNNUMBERED;
use crate::writer::batch::Batch;
use crate::writer::found::{Found, report};

/// Bytes of body that one read of a line takes, unless the first event alone has more.
const LINE_READ_BYTES: usize = 16 * 1024;
/// Retries may start this much early.
const SLACK: Duration = Duration::from_millis(20);
/// Hosts that one takeover names.
const HOSTS: usize = 100;

/// What is recorded under keys.
type ByKey = BTreeMap<IdempotencyKey, Recorded>;

impl Store {
    /// Carries out commands in one transaction, as the writer would; gives what the engine is told. None if the transaction
    /// is fenced. For a test that holds this model against the real store.
    pub fn commit(&mut self, member: Uuid, number: i64, commands: Vec<Command>, now: Duration) -> Option<Vec<Written>> {
        let (batch, _) = Batch::gather(commands, Volume::new(Duration::from_secs(1)));
        let found = self.apply(member, number, &batch, now).ok()?;
        Some(report(batch, found))
    }

    /// The same once more after a transaction was fenced, without what is under a lease that was marked as lost.
    pub fn commit_the_rest(
        &mut self,
        member: Uuid,
        number: i64,
        commands: Vec<Command>,
        now: Duration,
    ) -> Vec<Written> {
        let (mut batch, _) = Batch::gather(commands, Volume::new(Duration::from_secs(1)));
        let mut written = batch.drop_lost();
        let is_ours = batch.held().next().is_some();
        let found =
            if is_ours { self.apply(member, number, &batch, now).unwrap_or_default() } else { Found::default() };
        written.extend(report(batch, found));
        written
    }

    /// One transaction. Nothing happens if any lease of it is another's: gives those.
    pub(crate) fn apply(
        &mut self,
        member: Uuid,
        number: i64,
        batch: &Batch,
        now: Duration,
    ) -> Result<Found, Vec<Held>> {
        let is_lost = |held: &&Held| {
            let owned = self.owned(held.partition());
            !is_current((owned.owner.as_ref(), owned.epoch), (&member, held.epoch()))
        };
        let lost: Vec<Held> = batch.held().filter(is_lost).cloned().collect();
        if !lost.is_empty() && self.keeps(Rule::Fence) {
            return Err(lost);
        }
        self.commits.insert(member, number);
        let mut found = Found::default();
        for held in &batch.takeovers {
            found.taken_over.insert(held.partition(), self.take_over(held.partition()));
        }
        self.end_and_start(batch, &mut found, now);
        self.keep_waiting(batch, &mut found, now);
        let numbered: Vec<(usize, &Arrival)> = batch.numbered().collect();
        self.admit(&numbered, &mut found, now);
        for (_, decided, held) in &batch.operations {
            self.carry_out(decided, now);
            self.park_heads(held.partition(), |_| true);
        }
        for held in &batch.gathers {
            found.gathered.push(self.gather(&partitions(held)));
        }
        for (id, _) in &batch.parks {
            let waits = |open: &&mut Open| matches!(open.state, State::Pending | State::RetryWait);
            if let Some(open) = self.open.get_mut(id).filter(waits) {
                open.parked = true;
            }
        }
        let entities: BTreeSet<&Entity> = batch.fronts.iter().map(|(entity, _)| entity).collect();
        found.fronts = entities.into_iter().map(|entity| self.front(entity)).collect();
        found.woken = self.wake_all(batch.wakes.iter().map(|(token, _)| *token), now);
        for Unpark { host, which, but, held } in &batch.unparks {
            let events = self.unpark(&partitions(held), host, *which, but);
            let more = !events.is_empty();
            found.unparked.push((events, more));
        }
        for (suspects, _) in &batch.audits {
            found.audited.push(self.confirm(suspects));
        }
        Ok(found)
    }

    fn take_over(&mut self, partition: Partition) -> (Vec<Candidate>, Vec<Host>) {
        self.park_heads(partition, |_| true);
        let left = self.open.iter().filter(|(_, open)| open.partition == partition && open.state == State::InFlight);
        let ids: Vec<EventId> = left.map(|(id, _)| *id).filter(|_| self.keeps(Rule::AdoptWhatIsInFlight)).collect();
        let in_flight = ids.into_iter().filter_map(|id| self.candidate(id)).collect();
        (in_flight, self.parked_hosts(&[partition], HOSTS))
    }

    /// Events become final, and attempts begin.
    fn end_and_start(&mut self, batch: &Batch, found: &mut Found, now: Duration) {
        for settlement in batch.settlements().filter(|settlement| settlement.frees_the_line()) {
            let id = settlement.candidate.id;
            if !self.is_in_flight(settlement) {
                continue;
            }
            if let Some(open) = self.remove_open(id) {
                self.advance(&open);
                let attempts = settlement.candidate.attempts;
                self.finals.insert(id, Final { state: settlement.state(), attempts, finished: now });
                found.settled.insert(id);
            }
        }
        for start in &batch.starts {
            let id = start.candidate.id;
            let after_it = start.after.is_none_or(|after| found.settled.contains(&after));
            if found.started.contains(&id) || (!after_it && self.keeps(Rule::BeginAfterTheOneBefore)) {
                continue;
            }
            let known_only = self.keeps(Rule::StartWhatIsKnown);
            let Some(open) = self.open.get_mut(&id) else { continue };
            let is_known = open.attempts == start.candidate.attempts || !known_only;
            if let Some(state) = open.state.after(Change::Start).ok().filter(|_| is_known) {
                (open.state, open.attempts) = (state, open.attempts + 1);
                (open.changed, open.due, open.parked) = (now, None, false);
                found.started.insert(id);
            }
        }
    }

    fn is_in_flight(&self, settlement: &Settlement) -> bool {
        let row = self.open.get(&settlement.candidate.id);
        row.is_some_and(|row| {
            let is_this = row.state == State::InFlight && row.attempts == settlement.candidate.attempts;
            is_this || !self.keeps(Rule::SettleWhatIsInFlight)
        })
    }

    /// Records events that go on waiting, what went wrong, and the outbox.
    fn keep_waiting(&mut self, batch: &Batch, found: &mut Found, now: Duration) {
        for settlement in batch.settlements().filter(|settlement| !settlement.frees_the_line()) {
            let id = settlement.candidate.id;
            if !self.is_in_flight(settlement) {
                continue;
            }
            let Some(open) = self.open.get_mut(&id) else { continue };
            (open.state, open.changed) = (settlement.state(), now);
            open.due = match settlement.decision {
                Decision::Retry(delay) => Some(now + delay),
                Decision::Withdraw(delay) => {
                    open.attempts = open.attempts.saturating_sub(1);
                    Some(now + delay)
                }
                Decision::Deliver | Decision::Fail(_) | Decision::Hold(_) => None,
            };
            open.unknown += u16::from(settlement.outcome == Outcome::Unknown);
            found.settled.insert(id);
        }
        for settlement in batch.settlements() {
            let id = settlement.candidate.id;
            let is_recorded = found.settled.contains(&id) || !self.keeps(Rule::VoidLeavesNothing);
            if !is_recorded || matches!(settlement.decision, Decision::Deliver | Decision::Withdraw(_)) {
                continue;
            }
            self.failed.insert((id, settlement.candidate.attempts));
            if let Some(failure) = settlement.decision.failure() {
                let partition = settlement.candidate.event.partition;
                let letter = Letter { partition, reason: failure.code(), failed_us: micros(now), published: false };
                self.letters.insert(id, letter);
            }
        }
    }

    /// Decides on arrivals, in their order, and records those that join. Before that, it opens what is sent back.
    fn admit(&mut self, arrivals: &[(usize, &Arrival)], found: &mut Found, now: Duration) {
        let mut recorded = ByKey::new();
        for key in arrivals.iter().map(|(_, arrival)| &arrival.event.key) {
            let id = self.keys.get(key).copied().filter(|_| self.keeps(Rule::OneKeyOneEvent));
            recorded.extend(id.and_then(|id| Some((key.clone(), self.recorded(id)?))));
        }
        for (_, arrival) in arrivals.iter().filter(|(_, arrival)| arrival.unstorable.is_none()) {
            let known = recorded.get(&arrival.event.key).copied();
            let id = self.keys.get(&arrival.event.key).copied();
            let is_sent_back = known.is_some_and(|known| {
                admit(&mut Line::default(), Some(known), arrival.newcomer(), self.first) == Admission::Redrive
            });
            if let Some(id) = id.filter(|_| is_sent_back) {
                self.redrive(id, now);
            }
        }
        let mut lines: BTreeMap<Entity, Line> = BTreeMap::new();
        for (_, arrival) in arrivals {
            let entity = &arrival.event.entity;
            let line = lines.entry(entity.clone()).or_insert_with(|| self.line(entity));
            line.taken.extend(arrival.event.sequence.filter(|sequence| self.line_has(entity, *sequence)));
        }
        for (number, arrival) in arrivals {
            let line = lines.entry(arrival.event.entity.clone()).or_default();
            let admitted = self.admit_one(line, arrival, &mut recorded, now);
            found.admitted.insert(*number, admitted);
        }
    }

    fn admit_one(&mut self, line: &mut Line, arrival: &Arrival, recorded: &mut ByKey, now: Duration) -> Admitted {
        let event = &arrival.event;
        let known = recorded.get(&event.key).copied();
        let admission = match &arrival.unstorable {
            Some(why) => Admission::Reject(Poison::Unstorable(why.clone())),
            None => admit(line, known, arrival.newcomer(), self.first),
        };
        if matches!(admission, Admission::Redrive | Admission::Join { .. }) && self.keeps(Rule::OneKeyOneEvent) {
            recorded.insert(event.key.clone(), Recorded { digest: arrival.digest, has_failed: false });
        }
        match admission {
            Admission::Join { head, home, others_open, unseen } => {
                let home = if self.keeps(Rule::OneLineOneHome) { home } else { event.partition };
                let id = EventId(self.next_id);
                self.next_id += 1;
                let joined = Admitted { admission: Admission::Join { head, others_open, home, unseen }, id: Some(id) };
                self.insert(id, arrival, line, &joined, now);
                joined
            }
            admission => Admitted { admission, id: None },
        }
    }

    fn insert(&mut self, id: EventId, arrival: &Arrival, line: &Line, joined: &Admitted, now: Duration) {
        let Admission::Join { head, home, .. } = joined.admission else { return };
        let event = &arrival.event;
        if let (Some(_), Some(next)) = (event.sequence, line.next) {
            self.sequences.entry(event.entity.clone()).or_insert(next.0);
        }
        let begins = joined.begins(arrival);
        self.keys.insert(event.key.clone(), id);
        self.events.insert(id, Kept { digest: arrival.digest, partition: home, event: event.clone() });
        let open = Open {
            partition: home,
            entity: event.entity.clone(),
            position: event.sequence.map_or(UNNUMBERED, |sequence| sequence.0),
            host: event.host.clone(),
            state: if begins { State::InFlight } else { State::Pending },
            attempts: begins.into(),
            unknown: 0,
            changed: now,
            due: None,
            parked: head && arrival.place == Place::Store,
        };
        self.insert_open(id, open);
        if home != event.partition && self.keeps(Rule::NoteStrays) {
            self.strays.entry(id).or_insert((home, event.entity.clone()));
        }
    }

    fn line(&self, entity: &Entity) -> Line {
        let first = self.lines.get(entity).and_then(BTreeSet::first);
        Line {
            next: self.sequences.get(entity).copied().map(Sequence),
            unnumbered_open: first.is_some_and(|(position, _)| *position <= UNNUMBERED),
            home: self.home(entity),
            unseen: self.has_unseen(entity),
            taken: HashSet::new(),
        }
    }

    /// Whether an open event came in elsewhere that the owner of its line has not looked at.
    fn has_unseen(&self, entity: &Entity) -> bool {
        let home = self.home(entity);
        self.keeps(Rule::TellOfUnseen)
            && self.strays.values().any(|(partition, of)| of == entity && Some(*partition) == home)
    }

    fn line_has(&self, entity: &Entity, sequence: Sequence) -> bool {
        let of_number = (sequence.0, EventId(i64::MIN))..=(sequence.0, EventId(i64::MAX));
        self.lines.get(entity).is_some_and(|line| line.range(of_number).next().is_some())
    }

    fn recorded(&self, id: EventId) -> Option<Recorded> {
        let digest = self.events.get(&id)?.digest;
        let has_failed_for_good = self.finals.get(&id).is_some_and(|last| last.state == State::Failed);
        let is_on_hold = self.open.get(&id).is_some_and(|open| open.state == State::Failed);
        Some(Recorded { digest, has_failed: has_failed_for_good || is_on_hold })
    }

    fn carry_out(&mut self, decided: &Decided, now: Duration) {
        let failed = self.letters.get(&decided.id).map(|letter| letter.failed_us);
        let is_meant = decided.failed_us.is_none() || decided.failed_us == failed;
        if !is_meant && self.keeps(Rule::DecisionsNameTheirFailure) {
            return;
        }
        match decided.verb {
            Verb::Redrive => self.redrive(decided.id, now),
            Verb::Skip => self.skip(decided.id, now),
        }
    }

    fn gather(&mut self, partitions: &[Partition]) -> Gathered {
        let noted = self.strays.iter().filter(|(_, (partition, _))| partitions.contains(partition));
        let noted: Vec<EventId> = noted.map(|(id, _)| *id).collect();
        let taken = noted.into_iter().filter_map(|id| self.strays.remove(&id));
        let entities: BTreeSet<Entity> = taken.map(|(_, entity)| entity).collect();
        let mut hosts = BTreeSet::new();
        for partition in partitions {
            hosts.extend(self.park_heads(*partition, |open| entities.contains(&open.entity)));
        }
        Gathered { entities: entities.into_iter().collect(), hosts: hosts.into_iter().collect() }
    }

    fn front(&self, entity: &Entity) -> Front {
        let line: Vec<(i64, EventId)> = self.lines.get(entity).into_iter().flatten().copied().collect();
        let most = usize::try_from(LINE_READ).unwrap_or(usize::MAX);
        let (mut bytes, mut rows) = (0, Vec::new());
        for (place, (position, id)) in line.iter().enumerate().take(most) {
            if place > 0 && bytes >= LINE_READ_BYTES {
                break;
            }
            bytes += self.events.get(id).map_or(0, |kept| kept.event.body.len());
            // One whose event is gone is not read.
            if let Some(event) = self.candidate(*id) {
                rows.push((*position, event, line.len() > place + 1));
            }
        }
        let goes_on = rows.last().is_some_and(|(.., goes_on)| *goes_on);
        let (read, mut expected) = (rows.len(), self.sequences.get(entity).copied());
        let in_turn = |(position, event, _): &(i64, Candidate, bool)| {
            let is_numbered = *position > UNNUMBERED;
            let in_turn = !is_numbered || Some(*position) == expected;
            expected = if is_numbered { Some(position.saturating_add(1)) } else { expected };
            in_turn && self.open.get(&event.id).is_some_and(|open| open.state == State::Pending)
        };
        let events: Vec<Candidate> = rows.into_iter().take_while(in_turn).map(|(_, event, _)| event).collect();
        Front { entity: entity.clone(), more: read > events.len() || goes_on, events }
    }

    /// Each event that is due is found once, however many tokens name it.
    fn wake_all(&self, tokens: impl Iterator<Item = Token>, now: Duration) -> Vec<Woken> {
        let mut due = HashSet::new();
        let woken = tokens.filter_map(|token| self.wake(token, now));
        woken.filter(|woken| !matches!(woken, Woken::Due { event, .. } if !due.insert(event.id))).collect()
    }

    fn wake(&self, token: Token, now: Duration) -> Option<Woken> {
        let open = self.open.get(&token.id)?;
        let is_this = open.attempts == token.attempts || !self.keeps(Rule::OldTokensAreVoid);
        let sleeps_on = open.parked && self.keeps(Rule::ParkedSleepOn);
        if open.state != State::RetryWait || !is_this || sleeps_on {
            return None;
        }
        let due = open.due?;
        if due > now + SLACK && self.keeps(Rule::WaitUntilDue) {
            return Some(Woken::Early { token, partition: open.partition, delay: due.saturating_sub(now) });
        }
        let event = self.candidate(token.id)?;
        Some(Woken::Due { event, waited: now.saturating_sub(open.changed), late: now.saturating_sub(due) })
    }

    fn unpark(&mut self, partitions: &[Partition], host: &Host, which: Which, but: &[Entity]) -> Vec<Candidate> {
        let parked = self.open.iter().filter(|(_, open)| open.parked && open.host == *host);
        let ours = parked.filter(|(_, open)| partitions.contains(&open.partition) && !but.contains(&open.entity));
        let ids: Vec<EventId> = match which {
            Which::First(limit) => ours.map(|(id, _)| *id).take(limit).collect(),
            Which::ProbeNewest => ours.max_by_key(|(id, _)| **id).map(|(id, _)| *id).into_iter().collect(),
            Which::Probe => {
                ours.min_by_key(|(id, open)| (open.attempts, **id)).map(|(id, _)| *id).into_iter().collect()
            }
        };
        for id in &ids {
            if let Some(open) = self.open.get_mut(id) {
                open.parked = false;
            }
        }
        ids.into_iter().filter_map(|id| self.candidate(id)).collect()
    }

    fn confirm(&mut self, suspects: &[Suspect]) -> Confirmed {
        let of_kind = |suspicion| suspects.iter().filter(move |s| s.suspicion == suspicion).map(|s| s.id);
        let is_in_flight = |id: &EventId| self.open.get(id).is_some_and(|open| open.state == State::InFlight);
        let in_flight = of_kind(Suspicion::InFlight).filter(is_in_flight).filter_map(|id| self.candidate(id)).collect();
        let ready = of_kind(Suspicion::Ready).filter(|id| self.is_ready(*id)).filter_map(|id| {
            let open = self.open.get(&id)?;
            Some(Ready { id, partition: open.partition, entity: open.entity.clone(), host: open.host.clone() })
        });
        let ready = ready.collect();
        let gone: Vec<EventId> = of_kind(Suspicion::Orphan).filter(|id| !self.events.contains_key(id)).collect();
        let mut removed: Vec<(EventId, Open)> =
            gone.into_iter().filter_map(|id| Some((id, self.remove_open(id)?))).collect();
        removed.sort_unstable_by_key(|(_, open)| open.position);
        let orphan = |(id, open): (EventId, Open)| {
            self.advance(&open);
            (id, open.entity)
        };
        let orphans = removed.into_iter().map(orphan).collect();
        Confirmed { in_flight, ready, orphans }
    }
}

fn partitions(held: &[Held]) -> Vec<Partition> {
    held.iter().map(Held::partition).collect()
}

pub(super) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
