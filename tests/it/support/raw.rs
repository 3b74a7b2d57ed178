//! AMQP 0-9-1 frame by frame: publishes what polite clients refuse to send, and reads what they can't.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use url::Url;

use super::{Properties, SOON, Table, World, within};

/// The largest frame that RabbitMQ takes by default, and what a frame has besides its payload.
pub const FRAME_MAX: usize = 131_072;
const FRAME_OVERHEAD: usize = 8;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;

/// Classes and methods, by their numbers.
type Method = (u16, u16);
const CONNECTION_CLOSE: Method = (10, 50);
const CHANNEL_CLOSE: Method = (20, 40);
const BASIC: u16 = 60;

/// A message whose parts are bytes, whatever they mean.
#[derive(Clone, Debug)]
pub struct RawMessage {
    pub exchange: String,
    pub routing_key: Vec<u8>,
    /// The flags and what they announce, as they go over the wire.
    pub properties: Vec<u8>,
    pub body: Vec<u8>,
}

impl RawMessage {
    /// What its properties say. They have to be well-formed, as those of all messages are that the broker gives out.
    pub fn read_properties(&self) -> Properties {
        Properties::read(&self.properties)
    }

    /// The property `message_id`.
    pub fn key(&self) -> Option<Vec<u8>> {
        self.read_properties().short(Properties::MESSAGE_ID)
    }

    /// A header's type letter and its bytes.
    pub fn header(&self, name: &str) -> Option<(u8, Vec<u8>)> {
        let headers = self.read_properties().headers()?;
        let (kind, value) = headers.find(name.as_bytes())?;
        Some((kind, value.to_vec()))
    }

    /// A header that is text, or nothing.
    pub fn text(&self, name: &str) -> String {
        let value = self.header(name).map(|(_, value)| value).unwrap_or_default();
        String::from_utf8_lossy(value.get(4..).unwrap_or_default()).into_owned()
    }
}

/// One connection with one channel, in confirm mode. The broker ends it when it refuses a message; then the next message
/// goes over a new one.
pub struct Raw {
    url: Url,
    link: Option<Link>,
}

impl Raw {
    pub async fn connect(world: &World) -> Self {
        let url = Url::parse(&world.amqp_url).expect("one URL");
        Self { link: Some(Link::open(&url).await), url }
    }

    /// Publishes a message and waits for its confirm, or for what the broker says against it.
    pub async fn publish(&mut self, message: &RawMessage) -> Result<(), String> {
        let mut link = self.link().await;
        let published = within(SOON * 3, "the confirm of a raw message", link.publish(message)).await;
        if published.is_ok() {
            self.link = Some(link);
        }
        published
    }

    /// Declares a durable queue.
    pub async fn declare(&mut self, queue: &str, arguments: &Table) {
        let declared = self.queue(queue, 0b10, arguments).await;
        declared.unwrap_or_else(|refusal| panic!("the queue {queue}: {refusal}"));
    }

    /// How many messages of a queue are ready for a consumer.
    pub async fn count(&mut self, queue: &str) -> usize {
        let counted = self.queue(queue, 0b1, &Table::default()).await;
        counted.unwrap_or_else(|refusal| panic!("the queue {queue}: {refusal}"))
    }

    /// Drops what is ready in a queue.
    pub async fn purge(&mut self, queue: &str) {
        let mut link = self.link().await;
        let purge = Payload::method(50, 30).u16(0).short(queue.as_bytes()).u8(0);
        link.send(METHOD, 1, &purge.0).await.expect("the broker listens");
        within(SOON, format_args!("an empty {queue}"), link.answer((50, 31))).await.expect("the queue is there");
        self.link = Some(link);
    }

    async fn queue(&mut self, queue: &str, flags: u8, arguments: &Table) -> Result<usize, String> {
        let mut link = self.link().await;
        let declare = Payload::method(50, 10).u16(0).short(queue.as_bytes()).u8(flags).long(arguments.bytes());
        link.send(METHOD, 1, &declare.0).await?;
        let answer = link.answer((50, 11)).await?;
        self.link = Some(link);
        // After the method's number and the queue's name.
        let count = &answer[4 + 1 + queue.len()..][..4];
        Ok(u32::from_be_bytes(count.try_into().expect("4 bytes")) as usize)
    }

    /// Takes the first message off a queue.
    pub async fn take(&mut self, queue: &str) -> Option<RawMessage> {
        let mut link = self.link().await;
        let taken = within(SOON, format_args!("a message of {queue}"), link.take(queue)).await;
        self.link = Some(link);
        taken.unwrap_or_else(|refusal| panic!("the queue {queue}: {refusal}"))
    }

    async fn link(&mut self) -> Link {
        match self.link.take() {
            Some(link) => link,
            None => Link::open(&self.url).await,
        }
    }
}

/// What a frame carries, put together.
struct Payload(Vec<u8>);

impl Payload {
    fn method(class: u16, method: u16) -> Self {
        Self(Vec::new()).u16(class).u16(method)
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u8(self, number: u8) -> Self {
        self.bytes(&[number])
    }

    fn u16(self, number: u16) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    fn u32(self, number: u32) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    /// A short string.
    fn short(self, text: &[u8]) -> Self {
        self.u8(text.len().try_into().expect("at most 255 bytes")).bytes(text)
    }

    /// A long string, or the fields of a table.
    fn long(self, bytes: &[u8]) -> Self {
        self.u32(bytes.len().try_into().expect("fits a frame")).bytes(bytes)
    }
}

struct Frame {
    kind: u8,
    payload: Vec<u8>,
}

impl Frame {
    fn method(&self) -> Option<Method> {
        let number = |at: usize| self.payload.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes);
        (self.kind == METHOD).then_some(())?;
        Some((number(0)?, number(2)?))
    }
}

struct Link {
    stream: BufReader<TcpStream>,
}

impl Link {
    async fn open(url: &Url) -> Self {
        let address = (url.host_str().expect("a host"), url.port().unwrap_or(5_672));
        let stream = TcpStream::connect(address).await.expect("the broker answers");
        let mut link = Self { stream: BufReader::new(stream) };
        within(SOON, "a raw connection to the broker", link.shake_hands(url)).await.expect("the broker lets us in");
        link
    }

    async fn shake_hands(&mut self, url: &Url) -> Result<(), String> {
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
        self.stream.write_all(b"AMQP\x00\x00\x09\x01").await.map_err(|error| error.to_string())?;
        self.answer((10, 10)).await?;
        let login = [&[0], &*decoded(url.username()), &[0], &*decoded(url.password().unwrap_or_default())].concat();
        let start = Payload::method(10, 11).long(&[]).short(b"PLAIN").long(&login).short(b"en_US");
        self.send(METHOD, 0, &start.0).await?;
        self.answer((10, 30)).await?;
        let most = FRAME_MAX.try_into().expect("a small number");
        // One channel, and no heartbeats.
        self.send(METHOD, 0, &Payload::method(10, 31).u16(1).u32(most).u16(0).0).await?;
        let vhost = decoded(url.path().trim_start_matches('/'));
        self.send(METHOD, 0, &Payload::method(10, 40).short(&vhost).short(b"").u8(0).0).await?;
        self.answer((10, 41)).await?;
        self.send(METHOD, 1, &Payload::method(20, 10).short(b"").0).await?;
        self.answer((20, 11)).await?;
        self.send(METHOD, 1, &Payload::method(85, 10).u8(0).0).await?;
        self.answer((85, 11)).await.map(|_| ())
    }

    async fn publish(&mut self, message: &RawMessage) -> Result<(), String> {
        let (exchange, key) = (message.exchange.as_bytes(), &message.routing_key);
        // Mandatory: a message that no queue takes comes back.
        let publish = Payload::method(BASIC, 40).u16(0).short(exchange).short(key).u8(1);
        let size = (message.body.len() as u64).to_be_bytes();
        let header = Payload(Vec::new()).u16(BASIC).u16(0).bytes(&size).bytes(&message.properties);
        // The broker may hang up before it has read all: then its reason is still to be read.
        let sent = async {
            self.send(METHOD, 1, &publish.0).await?;
            self.send(HEADER, 1, &header.0).await?;
            for part in message.body.chunks(FRAME_MAX - FRAME_OVERHEAD) {
                self.send(BODY, 1, part).await?;
            }
            Ok::<_, String>(())
        };
        let sent = sent.await;
        self.answer((BASIC, 80)).await.map(|_| ()).map_err(|refusal| match sent {
            Ok(()) => refusal,
            Err(error) => format!("{refusal} ({error})"),
        })
    }

    async fn take(&mut self, queue: &str) -> Result<Option<RawMessage>, String> {
        let get = Payload::method(BASIC, 70).u16(0).short(queue.as_bytes()).u8(1);
        self.send(METHOD, 1, &get.0).await?;
        let found = self.frame().await?;
        if found.method() == Some((BASIC, 72)) {
            return Ok(None);
        }
        if found.method() != Some((BASIC, 71)) {
            return Err(refusal(&found));
        }
        // After the method's number, the delivery's tag and whether it comes again.
        let names = &found.payload[4 + 8 + 1..];
        let (exchange, names) = names[1..].split_at(names[0].into());
        let routing_key = names[1..][..names[0].into()].to_vec();
        let header = self.frame().await?.payload;
        let (size, properties) = header[4..].split_at(8);
        let size = usize::try_from(u64::from_be_bytes(size.try_into().expect("8 bytes"))).expect("it fits memory");
        let mut body = Vec::new();
        while body.len() < size {
            body.append(&mut self.frame().await?.payload);
        }
        let exchange = String::from_utf8_lossy(exchange).into_owned();
        Ok(Some(RawMessage { exchange, routing_key, properties: properties.to_vec(), body }))
    }

    async fn send(&mut self, kind: u8, channel: u16, payload: &[u8]) -> Result<(), String> {
        let head = Payload(Vec::new()).u8(kind).u16(channel);
        let frame = head.long(payload).u8(FRAME_END);
        self.stream.write_all(&frame.0).await.map_err(|error| error.to_string())
    }

    /// Waits for one method: its payload.
    async fn answer(&mut self, wanted: Method) -> Result<Vec<u8>, String> {
        let frame = self.frame().await?;
        if frame.method() == Some(wanted) { Ok(frame.payload) } else { Err(refusal(&frame)) }
    }

    async fn frame(&mut self) -> Result<Frame, String> {
        self.read_frame().await.map_err(|error| format!("the broker hung up: {error}"))
    }

    async fn read_frame(&mut self) -> std::io::Result<Frame> {
        let kind = self.stream.read_u8().await?;
        let _channel = self.stream.read_u16().await?;
        let mut payload = vec![0; self.stream.read_u32().await? as usize];
        self.stream.read_exact(&mut payload).await?;
        assert_eq!(self.stream.read_u8().await?, FRAME_END, "a frame of the broker's");
        Ok(Frame { kind, payload })
    }
}

/// What the broker says instead of what was waited for.
fn refusal(frame: &Frame) -> String {
    match frame.method() {
        Some(CONNECTION_CLOSE | CHANNEL_CLOSE) => {
            let code = u16::from_be_bytes([frame.payload[4], frame.payload[5]]);
            let text = String::from_utf8_lossy(&frame.payload[7..][..frame.payload[6].into()]).into_owned();
            format!("{code} {text}")
        }
        Some((BASIC, 50)) => "no queue takes it".to_owned(),
        other => format!("the broker answers {other:?}"),
    }
}
