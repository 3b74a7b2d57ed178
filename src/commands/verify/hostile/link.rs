//! As much of AMQP 0-9-1 as it takes to publish with confirms, frame by frame, and to hear what the broker says against it.

use std::time::Duration;

use lapin::uri::AMQPUri;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::RawMessage;
use super::wire::Payload;
use crate::config::SecretUrl;

/// The largest frame that RabbitMQ takes by default, and what a frame has besides its payload.
pub(super) const FRAME_MAX: u32 = 131_072;
const FRAME_OVERHEAD: u32 = 8;
/// A link that takes longer is tried anew.
const OPEN_WITHIN: Duration = Duration::from_secs(10);
/// A broker that hangs sends no confirm, and there are no heartbeats here that would tell.
const CONFIRM_WITHIN: Duration = Duration::from_secs(30);

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xce;

/// Class and method, by their numbers.
type Method = (u16, u16);
const CONNECTION_CLOSE: Method = (10, 50);
const CHANNEL_CLOSE: Method = (20, 40);
const BASIC: u16 = 60;
/// The reply code of a broker that stops.
const CONNECTION_FORCED: u16 = 320;

/// Why a message is not confirmed.
pub(super) enum Failure {
    /// The broker has looked at it, and does not take it.
    Refused(String),
    /// The link or the broker is gone: it may have arrived.
    Lost(String),
}

/// A connection with one channel, in confirm mode.
pub(super) struct Link {
    stream: BufReader<TcpStream>,
    frame_max: u32,
}

struct Frame {
    kind: u8,
    payload: Vec<u8>,
}

impl Link {
    pub(super) async fn open(url: &SecretUrl) -> Result<Self, String> {
        let uri: AMQPUri = url.reveal().parse()?;
        let opening = async {
            let host = uri.authority.host.trim_matches(['[', ']']);
            let stream = TcpStream::connect((host, uri.authority.port)).await.map_err(|error| error.to_string())?;
            let mut link = Self { stream: BufReader::new(stream), frame_max: FRAME_MAX };
            match link.shake_hands(&uri).await {
                Ok(()) => Ok(link),
                Err(Failure::Refused(why) | Failure::Lost(why)) => Err(why),
            }
        };
        tokio::time::timeout(OPEN_WITHIN, opening).await.unwrap_or_else(|_| Err("the broker does not answer".into()))
    }

    async fn shake_hands(&mut self, uri: &AMQPUri) -> Result<(), Failure> {
        self.stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
        self.answer((10, 10)).await?;
        let user = &uri.authority.userinfo;
        let login = format!("\0{}\0{}", user.username, user.password);
        let start = Payload::method(10, 11).long(&[]).short(b"PLAIN").long(login.as_bytes()).short(b"en_US");
        self.send(METHOD, 0, start).await?;
        let tune = self.answer((10, 30)).await?;
        // After the method's number and the most channels; 0 is no limit.
        let most = tune.get(6..10).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes);
        self.frame_max = if most == 0 { FRAME_MAX } else { FRAME_MAX.min(most) };
        // One channel, and no heartbeats.
        self.send(METHOD, 0, Payload::method(10, 31).u16(1).u32(self.frame_max).u16(0)).await?;
        self.send(METHOD, 0, Payload::method(10, 40).short(uri.vhost.as_bytes()).short(b"").u8(0)).await?;
        self.answer((10, 41)).await?;
        self.send(METHOD, 1, Payload::method(20, 10).short(b"")).await?;
        self.answer((20, 11)).await?;
        self.send(METHOD, 1, Payload::method(85, 10).u8(0)).await?;
        self.answer((85, 11)).await.map(drop)
    }

    /// Publishes a message, and waits until the broker has confirmed that it is in a queue.
    pub(super) async fn publish(&mut self, exchange: &str, message: &RawMessage) -> Result<(), Failure> {
        let publishing = async {
            let sent = self.send_message(exchange, message).await;
            // The broker may hang up before it has read all: then its reason is still to be read.
            match self.answer((BASIC, 80)).await {
                Err(Failure::Refused(why)) => Err(Failure::Refused(why)),
                answered => sent.and(answered.map(drop)),
            }
        };
        let published = tokio::time::timeout(CONFIRM_WITHIN, publishing).await;
        published.unwrap_or_else(|_| Err(Failure::Lost("no confirm came".into())))
    }

    async fn send_message(&mut self, exchange: &str, message: &RawMessage) -> Result<(), Failure> {
        // Mandatory: a message that no queue takes comes back.
        let publish = Payload::method(BASIC, 40).u16(0).short(exchange.as_bytes()).short(&message.routing_key).u8(1);
        let size = (message.body.len() as u64).to_be_bytes();
        let header = Payload::default().u16(BASIC).u16(0).bytes(&size).bytes(&message.properties);
        self.send(METHOD, 1, publish).await?;
        self.send(HEADER, 1, header).await?;
        let most = usize::try_from(self.frame_max - FRAME_OVERHEAD).unwrap_or(usize::MAX);
        for part in message.body.chunks(most) {
            self.send(BODY, 1, Payload::default().bytes(part)).await?;
        }
        Ok(())
    }

    async fn send(&mut self, kind: u8, channel: u16, payload: Payload) -> Result<(), Failure> {
        let frame = Payload::default().u8(kind).u16(channel).long(&payload.0).u8(FRAME_END);
        Ok(self.stream.write_all(&frame.0).await?)
    }

    /// Waits for one method: its payload.
    async fn answer(&mut self, wanted: Method) -> Result<Vec<u8>, Failure> {
        let frame = self.frame().await?;
        if frame.method() == Some(wanted) { Ok(frame.payload) } else { Err(frame.failure()) }
    }

    async fn frame(&mut self) -> std::io::Result<Frame> {
        let kind = self.stream.read_u8().await?;
        let _channel = self.stream.read_u16().await?;
        let size = self.stream.read_u32().await?;
        let mut payload = vec![0; usize::try_from(size.min(FRAME_MAX)).unwrap_or(0)];
        self.stream.read_exact(&mut payload).await?;
        if self.stream.read_u8().await? == FRAME_END {
            return Ok(Frame { kind, payload });
        }
        Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "the broker does not speak AMQP 0-9-1"))
    }
}

impl Frame {
    fn method(&self) -> Option<Method> {
        (self.kind == METHOD).then_some(())?;
        Some((self.number(0)?, self.number(2)?))
    }

    fn number(&self, at: usize) -> Option<u16> {
        self.payload.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
    }

    /// What the broker says instead of what was waited for. What no queue takes may find one later.
    fn failure(&self) -> Failure {
        let text = || String::from_utf8_lossy(self.payload.get(7..).unwrap_or_default()).into_owned();
        match (self.method(), self.number(4)) {
            (Some(CONNECTION_CLOSE | CHANNEL_CLOSE), Some(CONNECTION_FORCED)) => Failure::Lost(text()),
            (Some(CONNECTION_CLOSE | CHANNEL_CLOSE), _) => Failure::Refused(text()),
            (method, _) => Failure::Lost(format!("the broker answers {method:?}")),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Lost(format!("the broker hung up: {error}"))
    }
}
