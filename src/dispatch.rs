//! Who is next: the lanes of entities and the turns of hosts, in one task, fed by the store's history in the order of its
//! commits.

mod audit;
mod begun;
mod drain;
mod judge;
mod restore;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use self::begun::Begun;
pub use self::judge::Judge;
use self::restore::restore;
use crate::broker::delay::Token;
use crate::clock;
use crate::domain::event::{Entity, EventId, Host, Partition};
use crate::domain::lanes::{After, Candidate, Lanes, Then};
use crate::domain::verdict::{Decision, NotSent, Outcome};
use crate::handoff::{Attempt, DeadLettered, Ended, Notice, Wake};
use crate::host_limit::shared::{HostLimit, Permit, Place};
use crate::store::lease::{Held, Lease};
use crate::store::line::{Front, StoredEvent, Woken};
use crate::store::operator::Decided;
use crate::store::progress::Settlement;
use crate::store::writer::{Command, Written};
use crate::telemetry::{metrics, trace};

/// The channels of dispatch.
pub struct Ports {
    /// What was written, in the order of the commits.
    pub written: mpsc::Receiver<Vec<Written>>,
    /// The leases that are ours.
    pub owned: watch::Receiver<Vec<Arc<Lease>>>,
    /// What else there is to look at.
    pub notices: mpsc::Receiver<Notice>,
    /// What came of attempts.
    pub ended: mpsc::Receiver<Ended>,
    /// To the writer.
    pub commands: mpsc::Sender<Command>,
    /// To deliver.
    pub attempts: mpsc::Sender<Attempt>,
    /// To the broker, after a commit: retries.
    pub wakes: mpsc::Sender<Wake>,
    /// To the broker, after a commit: FAILED events.
    pub dead_letters: mpsc::Sender<DeadLettered>,
}

/// What a lane takes up: a share of the memory for bodies, if its head was taken in with one.
type Budget = Option<OwnedSemaphorePermit>;

struct Dispatch {
    lanes: Lanes<Budget>,
    hosts: Arc<HostLimit>,
    leases: HashMap<Partition, Arc<Lease>>,
    /// Commands on their way to the writer. Bounded by what they are about: lanes, attempts, hosts and wake-ups, each of
    /// which has one at most.
    outbox: VecDeque<Command>,
    /// Permits of attempts that are being recorded.
    starting: HashMap<EventId, Permit>,
    /// Attempts that are recorded, until their end is: of each event, the number of the attempt.
    in_hand: HashMap<EventId, (Partition, u16)>,
    /// Attempts that are recorded, and wait until their host may have one more request.
    begun: Begun,
    judge: Judge,
    /// Nothing new begins any more.
    draining: bool,
    wakes: mpsc::Sender<Wake>,
    dead_letters: mpsc::Sender<DeadLettered>,
}

/// Runs until `stop`, and then until every attempt that was recorded is settled.
pub async fn run(ports: Ports, hosts: Arc<HostLimit>, judge: Judge, stop: CancellationToken) {
    let Ports { mut written, mut owned, mut notices, mut ended, commands, attempts, wakes, dead_letters } = ports;
    let mut dispatch = Dispatch {
        lanes: Lanes::default(),
        hosts: hosts.clone(),
        leases: HashMap::new(),
        outbox: VecDeque::new(),
        starting: HashMap::new(),
        in_hand: HashMap::new(),
        begun: Begun::default(),
        judge,
        draining: false,
        wakes,
        dead_letters,
    };
    let mut ends = Vec::new();
    loop {
        dispatch.start_attempts();
        dispatch.send_begun(&attempts).await;
        dispatch.send_commands(&commands);
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            permit = commands.reserve(), if !dispatch.outbox.is_empty() => {
                let (Ok(permit), Some(command)) = (permit, dispatch.outbox.pop_front()) else { break };
                permit.send(command);
            }
            Some(results) = written.recv() => results.into_iter().for_each(|result| dispatch.follow(result)),
            1.. = ended.recv_many(&mut ends, ENDS) => ends.drain(..).for_each(|end| dispatch.settle(end)),
            Ok(()) = owned.changed() => dispatch.follow_leases(&owned.borrow_and_update()),
            Some(notice) = notices.recv(), if dispatch.outbox.len() < OUTBOX_FULL => dispatch.look_at(notice),
            () = hosts.turn.notified() => {}
            else => break,
        }
    }
    drop(notices);
    dispatch.drain(written, ended, commands, attempts).await;
}

/// Ends of attempts that are taken at once.
const ENDS: usize = 256;
/// Beyond this, notices wait: they are the one source of commands that nothing else bounds.
const OUTBOX_FULL: usize = 4_096;

impl Dispatch {
    /// Sends the commands that the writer has room for.
    fn send_commands(&mut self, commands: &mpsc::Sender<Command>) {
        while !self.outbox.is_empty()
            && let Ok(permit) = commands.try_reserve()
            && let Some(command) = self.outbox.pop_front()
        {
            permit.send(command);
        }
    }

    /// Sends what the cap allows. What can't be sent for want of any share is given up.
    async fn send_begun(&mut self, attempts: &mpsc::Sender<Attempt>) {
        for attempt in self.begun.take_ready() {
            let _ = attempts.send(attempt).await;
        }
        if !self.begun.is_empty() && !self.hosts.lock().has_share() {
            for attempt in self.begun.take_all() {
                self.give_up(attempt.candidate, attempt.held, Outcome::NotSent(NotSent::NotAllowed));
            }
        }
    }

    /// For an attempt that is recorded and not sent by us: perhaps by a former owner, or not at all.
    fn give_up(&mut self, candidate: Candidate, held: Held, outcome: Outcome) {
        if self.draining && outcome == Outcome::Unknown {
            // The next owner finds it in flight, as we did.
            return;
        }
        metrics::attempted(&candidate.event.host, &outcome, None);
        self.settle(Ended { candidate, held, outcome, took: None });
    }

    fn follow(&mut self, result: Written) {
        match result {
            // Whoever has the partition now finds it in the store.
            Written::Recorded { held, .. } if held.is_lost() => {}
            Written::Recorded { candidate, head: false, .. } => self.lanes.follower_admitted(candidate),
            Written::Recorded { candidate, held, others_open, place, .. } if candidate.attempts > 0 => {
                self.recorded_and_begun(candidate, held, others_open, place);
            }
            Written::Recorded { candidate, others_open, place, .. } => self.recorded(candidate, others_open, place),
            Written::Started { candidate, held } => {
                self.take_in_hand(&candidate, &held);
                if let Some(permit) = self.starting.remove(&candidate.id) {
                    self.begun.push(Attempt { candidate, held, permit });
                }
            }
            Written::NotStarted(candidate) => {
                self.starting.remove(&candidate.id);
                self.not_started(&candidate);
            }
            Written::Settled { settlement, then } => {
                self.in_hand.remove(&settlement.candidate.id);
                self.settled(&settlement, &then);
            }
            Written::NotSettled(candidate) => {
                self.in_hand.remove(&candidate.id);
                self.not_started(&candidate);
            }
            Written::Audited(confirmed) => self.audited(confirmed),
            Written::Front(front) => self.front(front),
            Written::Woken(woken) => self.woken(woken),
            Written::Unparked { host, events, more } => self.unparked(&host, events, more),
            Written::Gathered { entities, hosts } => self.gathered(&entities, &hosts),
            Written::TakenOver { held, in_flight, hosts } => self.taken_over(&held, &in_flight, &hosts),
        }
    }

    fn taken_over(&mut self, held: &Held, in_flight: &[StoredEvent], hosts: &[Host]) {
        for event in in_flight {
            self.adopt(event, held);
        }
        self.look_for_parked(hosts);
    }

    /// Settles an attempt that is recorded and that nobody has in hand.
    fn adopt(&mut self, event: &StoredEvent, held: &Held) {
        let Some(candidate) = restore(event) else { return };
        self.take_in_hand(&candidate, held);
        // With a lane of its own, its line goes on if it was the last attempt.
        let entity = candidate.event.entity.clone();
        if self.lanes.woken(candidate.clone(), None) {
            self.lanes.start(&entity);
        }
        self.give_up(candidate, held.clone(), Outcome::Unknown);
    }

    fn take_in_hand(&mut self, candidate: &Candidate, held: &Held) {
        if !held.is_lost() {
            self.in_hand.insert(candidate.id, (candidate.event.partition, candidate.attempts));
        }
    }

    fn look_for_parked(&mut self, hosts: &[Host]) {
        for host in hosts {
            self.hosts.lock().note_parked(host);
            self.unpark_if_wanted(host);
        }
    }

    /// New leases are taken over; what hangs on those that are gone is forgotten.
    fn follow_leases(&mut self, owned: &[Arc<Lease>]) {
        let is_owned = |lease: &Arc<Lease>| owned.iter().any(|other| Arc::ptr_eq(lease, other));
        let gone: Vec<Partition> =
            self.leases.extract_if(|_, lease| !is_owned(lease)).map(|(partition, _)| partition).collect();
        for partition in gone {
            self.lanes.forget_partition(partition);
            self.in_hand.retain(|_, (of, _)| *of != partition);
        }
        for lease in owned {
            if self.leases.contains_key(&lease.partition) {
                continue;
            }
            if let Some(held) = lease.hold() {
                self.leases.insert(lease.partition, lease.clone());
                self.outbox.push_back(Command::TakeOver { held });
            }
        }
    }

    fn look_at(&mut self, notice: Notice) {
        match notice {
            Notice::Due(partition, token) => self.wake(partition, token),
            Notice::Overdue(partition, entity, token) => {
                if self.lanes.head(&entity).is_none() {
                    self.wake(partition, token);
                }
            }
            Notice::Parked(host) => self.look_for_parked(&[host]),
            Notice::Strays => {
                let held = self.hold_all();
                self.outbox.push_back(Command::Gather { held });
            }
            Notice::Suspects(suspects) => self.look_closer(suspects),
            Notice::Operate(partition, decided, done) => self.operate(partition, decided, done),
        }
    }

    /// Proof for one piece of work; none if the partition is not ours (any more).
    fn hold(&self, partition: Partition) -> Option<Held> {
        self.leases.get(&partition).and_then(super::store::lease::Lease::hold)
    }

    fn hold_all(&self) -> Vec<Held> {
        self.leases.values().filter_map(super::store::lease::Lease::hold).collect()
    }

    fn wake(&mut self, partition: Partition, token: Token) {
        if let Some(held) = self.hold(partition) {
            self.outbox.push_back(Command::Wake { id: token.id, attempts: token.attempts, held });
        }
    }

    /// A decision that is dropped here was not carried out: its message stays with the broker, for the next owner.
    fn operate(&mut self, partition: Partition, decided: Decided, done: oneshot::Sender<()>) {
        if let Some(held) = self.hold(partition) {
            self.outbox.push_back(Command::Operate { decided, held, done });
        }
    }

    /// Lines that are at work go on to what was gathered; heads without a lane were parked.
    fn gathered(&mut self, entities: &[Entity], hosts: &[Host]) {
        for entity in entities {
            self.lanes.goes_on(entity);
        }
        self.look_for_parked(hosts);
    }

    /// The head of a line, with its first attempt.
    fn recorded_and_begun(&mut self, candidate: Candidate, held: Held, others_open: bool, place: Option<Place>) {
        self.take_in_hand(&candidate, &held);
        let Some(mut place) = place else { return };
        let budget = place.take_budget();
        let Some(permit) = place.into_permit() else { return };
        if self.lanes.head_begun(candidate.clone(), others_open, budget) {
            self.begun.push(Attempt { candidate, held, permit });
        } else {
            self.give_up(candidate, held, Outcome::NotSent(NotSent::NotAllowed));
        }
    }

    /// The head of a line.
    fn recorded(&mut self, candidate: Candidate, others_open: bool, place: Option<Place>) {
        let (host, entity) = (candidate.event.host.clone(), candidate.event.entity.clone());
        let Some(mut place) = place else {
            self.hosts.lock().note_parked(&host);
            return self.unpark_if_wanted(&host);
        };
        if self.lanes.head_admitted(candidate, others_open, place.take_budget()) {
            place.take_up(entity, clock::now());
        }
    }

    /// Has an attempt's end recorded, together with what comes next in its line.
    fn settle(&mut self, ended: Ended) {
        let settlement = self.judge.settlement(ended);
        let goes_on = settlement.frees_the_line() && !self.draining;
        let then = if goes_on { self.next(&settlement) } else { Then::Nothing };
        self.outbox.push_back(Command::Settle { settlement, then });
    }

    fn next(&mut self, settlement: &Settlement) -> Then {
        let Candidate { id, event, .. } = &settlement.candidate;
        let then = self.lanes.next(&event.entity, *id);
        if let Then::Begin(next) = &then {
            match self.hosts.begin_next_in_line(&next.event.host) {
                Some(permit) => drop(self.starting.insert(next.id, permit)),
                // It waits for its turn.
                None => return Then::Nothing,
            }
        }
        then
    }

    fn settled(&mut self, settlement: &Settlement, then: &Then) {
        self.announce(settlement);
        let (entity, id) = (&settlement.candidate.event.entity, settlement.candidate.id);
        if !settlement.frees_the_line() {
            self.lanes.forget(entity);
            return;
        }
        match self.lanes.finished(entity, id) {
            After::Send if matches!(then, Then::Begin(_)) => drop(self.lanes.start(entity)),
            After::Send => self.send_head(entity),
            After::Load if matches!(then, Then::Read) => {}
            After::Load => {
                let (entity, held) = (entity.clone(), settlement.held.clone());
                self.outbox.push_back(Command::ReadFront { entity, held });
            }
            After::Gone => {}
        }
    }

    /// Full or gone, the channels lose nothing: the sweeps find it.
    fn announce(&self, settlement: &Settlement) {
        let candidate = &settlement.candidate;
        match settlement.decision {
            Decision::Deliver => {
                let taken_in = candidate.event.taken_in;
                metrics::delivered(Duration::from_millis(clock::unix_millis().saturating_sub(taken_in)));
            }
            Decision::Retry(delay) => {
                metrics::retried();
                let token = Token { id: candidate.id, attempts: candidate.attempts };
                let _ = self.wakes.try_send(Wake { partition: candidate.event.partition, token, delay });
            }
            Decision::Withdraw(delay) => {
                let token = Token { id: candidate.id, attempts: candidate.attempts.saturating_sub(1) };
                let partition = candidate.event.partition;
                let _ = self.wakes.try_send(Wake { partition, token, delay });
            }
            Decision::Fail(_) => {
                let _ = self.dead_letters.try_send(DeadLettered { id: candidate.id, held: settlement.held.clone() });
            }
        }
    }

    fn not_started(&mut self, candidate: &Candidate) {
        let entity = &candidate.event.entity;
        if !self.lanes.not_started(entity, candidate.id) {
            return;
        }
        match self.hold(candidate.event.partition) {
            Some(held) => self.outbox.push_back(Command::ReadFront { entity: entity.clone(), held }),
            None => drop(self.lanes.forget(entity)),
        }
    }

    fn front(&mut self, front: Front) {
        let entity = front.entity;
        let line = front.events.iter().map_while(restore).collect();
        if self.lanes.loaded(&entity, line, front.more) {
            self.send_head(&entity);
        }
    }

    fn woken(&mut self, woken: Woken) {
        match woken {
            Woken::Due { event, waited_ms, late_ms } => {
                let Some(candidate) = restore(&event) else { return };
                let (event, attempts) = (candidate.event.clone(), candidate.attempts);
                if self.lanes.woken(candidate, None) {
                    metrics::retry_late(millis(late_ms));
                    trace::waited(&event, attempts, millis(waited_ms), clock::time_of_day());
                    self.send_head(&event.entity);
                }
            }
            Woken::Early { id, attempts, partition, millis } => {
                let delay = Duration::from_millis(millis.unsigned_abs());
                let token = Token { id, attempts };
                let _ = self.wakes.try_send(Wake { partition, token, delay });
            }
        }
    }

    fn unparked(&mut self, host: &Host, events: Vec<StoredEvent>, more: bool) {
        for event in events {
            let Some(candidate) = restore(&event) else { continue };
            let entity = candidate.event.entity.clone();
            if self.lanes.woken(candidate, None) {
                self.hosts.lock().enqueue_loaded(host, entity, clock::now());
            }
        }
        self.hosts.lock().loaded(host, more);
        self.unpark_if_wanted(host);
    }

    /// The head of a lane waits for its host: in memory, or in the store if the host is slow.
    fn send_head(&mut self, entity: &Entity) {
        let Some(head) = self.lanes.head(entity) else { return };
        let (id, event) = (head.id, head.event.clone());
        if self.hosts.lock().enqueue_next_in_line(&event.host, entity.clone(), clock::now()) {
            return;
        }
        self.lanes.forget(entity);
        if let Some(held) = self.hold(event.partition) {
            self.outbox.push_back(Command::Park { id, held });
        }
    }

    fn start_attempts(&mut self) {
        while self.outbox.len() < OUTBOX_FULL {
            let next = self.hosts.lock().start_next();
            let Some((host, entity)) = next else { return };
            let permit = self.hosts.permit(host.clone());
            self.hosts.room.notify_one();
            self.unpark_if_wanted(&host);
            let Some(candidate) = self.lanes.start(&entity) else { continue };
            let Some(held) = self.hold(candidate.event.partition) else {
                self.lanes.forget(&entity);
                continue;
            };
            self.starting.insert(candidate.id, permit);
            self.outbox.push_back(Command::Start { candidate, held });
        }
    }

    fn unpark_if_wanted(&mut self, host: &Host) {
        let wanted = self.hosts.lock().wants_load(host);
        if let Some(limit) = wanted {
            let held = self.hold_all();
            self.outbox.push_back(Command::Unpark { host: host.clone(), limit, held });
        }
    }
}

/// What the database has measured.
fn millis(measured: i64) -> Duration {
    Duration::from_millis(u64::try_from(measured).unwrap_or(0))
}
