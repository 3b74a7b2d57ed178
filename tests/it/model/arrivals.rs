//! What comes in: events of a few entities, with numbers and without, once more, or by another queue than before.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use onceward::domain::admission::FirstSequence;
use onceward::domain::event::{Entity, Event, Host, Partition, Sequence, Target};
use onceward::engine::command::{Place, Ticket};
use onceward::handoff::{Arrival, Command};

use super::both::PARTITIONS;
use super::trial::Trial;

/// Entities of a sequence: the first two number their events, the third does not, the last begins to at some time.
const ENTITIES: u64 = 4;
/// More than one body that is read with others, and more than all of a read may have.
const LARGE: [usize; 2] = [6 * 1024, 20 * 1024];

/// The last numbers that one transaction's arrivals have.
type Last = BTreeMap<Entity, i64>;

impl Trial<'_> {
    /// Each sequence has names of its own: writers remember how far an entity has come.
    pub fn entity(&self, number: u64) -> Entity {
        format!("entity-{}-{number}", self.both.sequences).into()
    }

    pub fn any_entity(&mut self) -> Entity {
        let number = self.random.u64(..=ENTITIES);
        self.entity(number)
    }

    pub fn any_host(&mut self) -> Host {
        self.destination().host()
    }

    fn destination(&mut self) -> Target {
        Target::read_back(&format!("http://host-{}.example/", self.random.u8(..2))).expect("a URL")
    }

    pub fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    pub fn admit(&mut self, who: usize) -> Command {
        let ticket = self.ticket();
        let mut last = Last::new();
        let arrivals = (0..=self.random.usize(..4)).map(|_| self.arrival(who, &mut last)).collect();
        Command::Admit { ticket, arrivals }
    }

    fn arrival(&mut self, who: usize, last: &mut Last) -> Arrival {
        let event = if self.chance(25) { self.sent_again(who) } else { None };
        let event = Arc::new(event.unwrap_or_else(|| self.new_event(who, last)));
        self.sent.push(event.clone());
        let held = self.held(who, event.partition);
        let place = self.random.choice([Place::Store, Place::Memory, Place::Begun]).expect("there are some");
        let unstorable = self.chance(2).then(|| "too large".to_owned());
        Arrival { digest: event.digest(), event, held, place, unstorable }
    }

    /// Something that has come in before: perhaps by another queue, or as its dead letter, or with something else in it.
    fn sent_again(&mut self, who: usize) -> Option<Event> {
        let sent = self.sent.clone();
        let failed = |event: &Arc<Event>| {
            let id = self.model.keys.get(&event.key);
            id.is_some_and(|id| self.model.letters.contains_key(id))
        };
        let failed: Vec<Arc<Event>> = sent.iter().filter(|event| failed(event)).cloned().collect();
        let sent = if failed.is_empty() || self.chance(50) { sent } else { failed };
        let mut event = Event::clone(&*self.any(sent)?);
        event.is_sent_back = self.chance(50);
        if self.chance(15) {
            event.body = Bytes::from_static(b"something else");
        }
        event.partition = self.queue(who, event.partition);
        Some(event)
    }

    /// The queue by which an event comes: most often the one that its entity has, if it is ours.
    fn queue(&mut self, who: usize, usual: Partition) -> Partition {
        let ours = self.partitions(who);
        if ours.contains(&usual) && self.chance(85) {
            return usual;
        }
        self.any(ours).expect("whoever writes has a lease")
    }

    fn new_event(&mut self, who: usize, last: &mut Last) -> Event {
        let usual = |number: u64| Partition(i32::try_from(number % u64::from(PARTITIONS)).expect("a small number"));
        let ours: Vec<u64> = (0..ENTITIES).filter(|number| self.leases[who].contains_key(&usual(*number))).collect();
        let number = if self.chance(80) { self.any(ours) } else { None };
        let number = number.unwrap_or_else(|| self.random.u64(..ENTITIES));
        let (entity, partition) = (self.entity(number), self.queue(who, usual(number)));
        let is_numbered = match number {
            0 | 1 => !self.chance(3),
            2 => self.chance(1),
            _ => self.model.sequences.contains_key(&entity) || self.chance(10),
        };
        let sequence = is_numbered.then(|| self.sequence(&entity, last));
        let length = match self.random.u8(..100) {
            0..=87 => self.random.usize(..40),
            88..=95 => LARGE[0],
            _ => LARGE[1],
        };
        let destination = self.destination();
        Event {
            key: format!("key-{}-{}", self.both.sequences, self.sent.len()).into(),
            host: destination.host(),
            entity,
            partition,
            sequence,
            destination,
            content_type: None,
            content_encoding: None,
            headers: http::HeaderMap::new(),
            traceparent: None,
            tracestate: None,
            trace: None,
            is_sent_back: false,
            ingested_ms: 0,
            properties: Bytes::new(),
            body: vec![self.random.u8(..); length].into(),
        }
    }

    /// A number: most often the one behind all that are there, or the one that the entity waits for.
    fn sequence(&mut self, entity: &Entity, last: &mut Last) -> Sequence {
        let next = self.model.sequences.get(entity).copied().unwrap_or_else(|| match self.first {
            FirstSequence::One => 1,
            FirstSequence::Any => self.random.i64(0..50),
        });
        let open = self.model.lines.get(entity).and_then(|line| line.last()).map(|(position, _)| position + 1);
        let behind = last.get(entity).map(|last| last + 1).or(open).unwrap_or(next).max(next);
        let number = match self.random.u8(..100) {
            0..=64 => behind,
            65..=79 => next,
            80..=95 => next + self.random.i64(0..5),
            _ => next - 1,
        };
        last.insert(entity.clone(), number);
        Sequence(number.max(0))
    }
}
