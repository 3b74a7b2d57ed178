//! A worker that gets hostile messages among healthy events, and what has to become of both.

use crate::support::{
    Message, Producer, Properties, Raw, RawMessage, Receiver, Reply, SOON, Table, Worker, World, asking,
};

/// Where dead letters are.
pub const DEAD_LETTERS: &str = "events.dead-letter";
/// Healthy events before a hostile message and after it.
const AMONG: usize = 5;
/// Healthy events before all hostile ones, and after them.
const AROUND: usize = 100;
const SETTINGS: [&str; 2] = ["--partitions=2", "--backoff-initial=200ms"];
/// What a letter doesn't keep as it was: the broker would act on it.
const ACTING: [&[u8]; 3] = [b"x-death", b"CC", b"BCC"];

/// Where a message has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Delivered,
    DeadLetter,
    /// One or the other.
    Either,
}

/// A message, its fate, and for a dead letter words of which a person finds one in the log.
#[derive(Clone, Debug)]
pub struct Kind {
    pub name: String,
    pub message: RawMessage,
    pub fate: Fate,
    pub words: &'static [&'static str],
}

impl Kind {
    /// A message of an entity of its own.
    pub fn new(name: &str, properties: &Properties) -> Self {
        let message = RawMessage {
            exchange: "events".into(),
            routing_key: name.into(),
            properties: properties.bytes(),
            body: format!("the body of {name}").into_bytes(),
        };
        Self { name: name.into(), message, fate: Fate::Delivered, words: &[] }
    }

    /// An event with these headers.
    pub fn with_headers(name: &str, headers: &Table) -> Self {
        Self::new(name, &Properties::event(name, headers))
    }

    pub fn dead(self, words: &'static [&'static str]) -> Self {
        Self { fate: Fate::DeadLetter, words, ..self }
    }

    pub fn either(self) -> Self {
        Self { fate: Fate::Either, ..self }
    }

    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.message.body = body;
        self
    }

    /// Past the exchange, to a queue.
    pub fn into_queue(mut self, queue: &str) -> Self {
        self.message.exchange.clear();
        self.message.routing_key = queue.into();
        self
    }
}

/// A worker with few partitions, so that hostile and healthy messages share them.
pub struct Trial<'a> {
    world: &'a World,
    pub worker: Worker,
    pub receiver: Receiver,
    producer: Producer,
    pub raw: Raw,
    letters: Vec<RawMessage>,
    healthy: usize,
}

impl<'a> Trial<'a> {
    pub async fn start(world: &'a World) -> Self {
        let receiver = Receiver::new(|request| {
            let fails = fails_at_first(request.key) && request.number == 1;
            Reply::status(if fails { 503 } else { 200 })
        });
        let receiver = receiver.await;
        let worker = Worker::start(world, &SETTINGS).await;
        let (producer, raw) = (Producer::connect(world).await, Raw::connect(world).await);
        let mut trial = Self { world, worker, receiver, producer, raw, letters: Vec::new(), healthy: 0 };
        trial.publish_healthy(AROUND).await;
        trial.healthy_arrive("before anything hostile").await;
        trial
    }

    /// Headers of an event.
    pub fn headers(&self) -> Table {
        Table::to(&self.receiver.url())
    }

    pub async fn publish_healthy(&mut self, count: usize) {
        let message = |n: usize| Message::new(&format!("user-{n}"), &healthy(n), &self.receiver.url());
        let messages: Vec<_> = (self.healthy..self.healthy + count).map(message).collect();
        self.producer.publish_all(&messages).await;
        self.healthy += count;
    }

    /// Waits until every healthy event so far is delivered.
    pub async fn healthy_arrive(&self, when: &str) {
        let what = format!("the healthy events {when}");
        let keys: Vec<_> = (0..self.healthy).map(healthy).collect();
        self.receiver.wait_for(SOON, &what, |log| keys.iter().all(|key| log.delivered.contains(key))).await;
    }

    pub async fn publish(&mut self, kind: &Kind) {
        let published = self.raw.publish(&kind.message).await;
        published.unwrap_or_else(|refusal| panic!("the broker refuses {}: {refusal}", kind.name));
    }

    /// Publishes while no worker runs, healthy events between them, so that the next one finds all at once.
    pub async fn pile_up(&mut self, kinds: impl IntoIterator<Item = Kind>) {
        self.worker.stop().await;
        for kind in kinds {
            self.publish(&kind).await;
            self.publish_healthy(1).await;
        }
        self.worker = Worker::start(self.world, &SETTINGS).await;
        self.publish_healthy(AROUND).await;
    }

    /// Publishes each among healthy events, one after the other, and waits for these.
    pub async fn meet(&mut self, kinds: &[Kind]) {
        for kind in kinds {
            self.publish_healthy(AMONG).await;
            self.publish(kind).await;
            self.publish_healthy(AMONG).await;
            self.healthy_arrive(&format!("around {}", kind.name)).await;
        }
    }

    /// Waits until each is where it belongs, ends the worker, and looks at everything.
    pub async fn ends_well(mut self, kinds: &[Kind]) {
        self.publish_healthy(AROUND).await;
        self.healthy_arrive("after everything hostile").await;
        for kind in kinds {
            self.wait_for_end(kind).await;
        }
        self.worker.stop().await;
        self.take_letters().await;
        for kind in kinds {
            self.check(kind);
        }
        self.healthy_were_sent_once();
        self.nothing_is_left().await;
    }

    async fn wait_for_end(&mut self, kind: &Kind) {
        let mut reader = Raw::connect(self.world).await;
        let (receiver, letters) = (&self.receiver, &mut self.letters);
        asking(SOON, format_args!("the end of {}", kind.name), async || {
            while let Some(letter) = reader.take(DEAD_LETTERS).await {
                letters.push(letter);
            }
            let ended =
                letters.iter().any(|letter| is_of(letter, kind)) || !receiver.attempts_of(&kind.name).is_empty();
            ended.then_some(())
        })
        .await;
    }

    async fn take_letters(&mut self) {
        while let Some(letter) = self.raw.take(DEAD_LETTERS).await {
            self.letters.push(letter);
        }
    }

    fn check(&self, kind: &Kind) {
        let letters: Vec<_> = self.letters.iter().filter(|letter| is_of(letter, kind)).collect();
        let ends = (self.receiver.attempts_of(&kind.name).len(), letters.len());
        let expected: &[(usize, usize)] = match kind.fate {
            Fate::Delivered => &[(1, 0)],
            Fate::DeadLetter => &[(0, 1)],
            Fate::Either => &[(1, 0), (0, 1)],
        };
        let name = &kind.name;
        assert!(expected.contains(&ends), "{name}: attempts and dead letters are {ends:?}, not {expected:?}");
        for letter in letters {
            keeps(letter, kind);
        }
        let log = self.worker.log().to_lowercase();
        let told = kind.words.is_empty() || kind.words.iter().any(|word| log.contains(word));
        assert!(told, "{name}: the worker's log has none of {:?}", kind.words);
    }

    fn healthy_were_sent_once(&self) {
        let log = self.receiver.log();
        for key in (0..self.healthy).map(healthy) {
            let statuses: Vec<_> =
                log.attempts.iter().filter(|attempt| attempt.key == key).map(|attempt| attempt.status).collect();
            let expected = if fails_at_first(&key) { vec![Some(503), Some(200)] } else { vec![Some(200)] };
            assert_eq!(statuses, expected, "the attempts of {key}");
        }
    }

    /// When a worker has stopped, everything that it had not acknowledged is back in its queue.
    async fn nothing_is_left(&mut self) {
        for queue in queues(self.world).await {
            assert_eq!(self.raw.count(&queue).await, 0, "messages in {queue}");
        }
    }
}

/// The names of all queues.
pub async fn queues(world: &World) -> Vec<String> {
    let queues = world.ask(&format!("api/queues/{}", world.name)).await;
    let names = queues.as_array().expect("a list").iter().map(|queue| queue["name"].as_str().expect("a name"));
    names.map(str::to_owned).collect()
}

fn healthy(n: usize) -> String {
    format!("healthy-{n}")
}

/// Some healthy events need a second attempt: these pass the queue of what is due.
fn fails_at_first(key: &str) -> bool {
    key.starts_with("healthy-") && (key.ends_with("07") || key.ends_with("57"))
}

fn is_of(letter: &RawMessage, kind: &Kind) -> bool {
    let message = &kind.message;
    letter.body == message.body && letter.key() == message.key() && letter.routing_key == message.routing_key
}

/// A letter has the properties and headers of its message. What is too large for a frame is named.
fn keeps(letter: &RawMessage, kind: &Kind) {
    let (sent, kept) = (kind.message.read_properties(), letter.read_properties());
    for place in [
        Properties::CONTENT_TYPE,
        Properties::CONTENT_ENCODING,
        Properties::CORRELATION_ID,
        Properties::MESSAGE_ID,
        Properties::TYPE,
        Properties::APP_ID,
    ] {
        assert_eq!(kept.short(place), sent.short(place), "{}: property {place}", kind.name);
    }
    let cut = letter.text("onceward-cut");
    let headers = kept.headers().unwrap_or_default();
    let originals = sent.headers().unwrap_or_default();
    for (name, ..) in originals.fields() {
        // Of a name that comes twice, one is enough.
        let kept = headers
            .find(name)
            .is_some_and(|(letter, value)| originals.fields().any(|field| field == (name, letter, value)));
        let is_cut = cut.contains(&*String::from_utf8_lossy(name));
        let may_miss = ACTING.contains(&name) || name.starts_with(b"onceward-");
        assert!(kept || may_miss || is_cut, "{}: the header {:?}", kind.name, String::from_utf8_lossy(name));
    }
}
