//! RabbitMQ: the transport and the timer. Postgres is the truth.

pub mod cut_off;
pub mod dead_letters;
pub mod delay;
pub mod gatekeeper;
pub mod letter;
mod names;
pub mod probe;
pub mod publisher;
pub mod topology;
pub mod wire;

use std::sync::Arc;
use std::time::Duration;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, ErrorKind};
use url::{Host, Url};

use self::gatekeeper::ahead::Ahead;
use crate::config::nodes::BrokerUrls;
use crate::config::{SecretUrl, tls};

/// How long a node may take to answer, if there are others to try: one that hangs accepts connections, and says nothing.
const NODE_WITHIN: Duration = Duration::from_secs(4);

/// The way to the broker: its nodes, of which one is enough.
#[derive(Clone, Debug)]
pub struct Nodes {
    urls: BrokerUrls,
    /// Where the next round begins.
    turn: usize,
    /// Whose connections they are, for the broker's own tools.
    worker: Option<String>,
    command: Option<&'static str>,
}

impl Nodes {
    /// Begins with the first.
    #[must_use]
    pub fn new(urls: &BrokerUrls) -> Self {
        Self { urls: urls.clone(), turn: 0, worker: None, command: None }
    }

    /// Its connections bear this name, whatever they are for: those of a command.
    #[must_use]
    pub fn for_command(self, name: &'static str) -> Self {
        Self { command: Some(name), ..self }
    }

    /// Its connections carry the worker's name.
    #[must_use]
    pub fn for_worker(self, name: &str) -> Self {
        Self { worker: Some(name.into()), ..self }
    }

    /// Connects to the first node that answers, under a name that the broker's own tools show. The next time begins with
    /// the node behind that one: a node that is cut off from the others answers, and is of no use.
    ///
    /// lapin's recovery stays off: each user of a connection owns its reconnect loop.
    ///
    /// # Errors
    /// lapin's about the last node, if none can be reached or all refuse.
    pub async fn connect(&mut self, name: &str, heartbeat: Heartbeat) -> Result<Connection, lapin::Error> {
        self.connect_counting(name, heartbeat, &Arc::default()).await
    }

    /// Whether there is no other node to go to.
    #[must_use]
    pub fn are_one(&self) -> bool {
        self.urls.all().len() == 1
    }

    /// Connects once more to the node that was connected last.
    ///
    /// # Errors
    /// lapin's, if it can't be reached or refuses.
    pub async fn connect_again(&self, name: &str, heartbeat: Heartbeat) -> Result<Connection, lapin::Error> {
        let count = self.urls.all().len();
        let url = &self.urls.all()[(self.turn + count - 1) % count];
        let name = self.called(name);
        let connecting = connect(url, &name, heartbeat);
        tokio::time::timeout(NODE_WITHIN, connecting).await.unwrap_or_else(|_| Err(timed_out()))
    }

    /// The name of a connection, by what it is for and whose it is.
    fn called(&self, name: &str) -> String {
        match &self.worker {
            Some(worker) => format!("{name} {worker}"),
            None => self.command.unwrap_or(name).into(),
        }
    }

    /// The same, and says through `ahead` what messages the broker sends ahead over the new connection.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_counting(
        &mut self,
        name: &str,
        heartbeat: Heartbeat,
        ahead: &Arc<Ahead>,
    ) -> Result<Connection, lapin::Error> {
        let name = &*self.called(name);
        let count = self.urls.all().len();
        let mut failed = None;
        for _ in 0..count {
            let url = &self.urls.all()[self.turn % count];
            self.turn = (self.turn + 1) % count;
            let connecting = connect_counting(url, name, heartbeat, ahead);
            let connected = match count {
                1 => connecting.await,
                _ => tokio::time::timeout(NODE_WITHIN, connecting).await.unwrap_or_else(|_| Err(timed_out())),
            };
            match connected {
                Ok(connection) => {
                    tracing::debug!(node = %url, name, "connected");
                    return Ok(connection);
                }
                Err(error) => {
                    tracing::debug!(node = %url, name, %error, "a node of the broker is out of reach");
                    failed = Some(error);
                }
            }
        }
        Err(failed.unwrap_or_else(timed_out))
    }
}

fn timed_out() -> lapin::Error {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// Connects to one node, under a name that the broker's own tools show.
///
/// # Errors
/// lapin's, if the node can't be reached or refuses.
pub async fn connect(url: &SecretUrl, name: &str, heartbeat: Heartbeat) -> Result<Connection, lapin::Error> {
    connect_counting(url, name, heartbeat, &Arc::default()).await
}

async fn connect_counting(
    url: &SecretUrl,
    name: &str,
    heartbeat: Heartbeat,
    ahead: &Arc<Ahead>,
) -> Result<Connection, lapin::Error> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let invalid = |error: String| std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
    let (mut uri, tls) = way(url).map_err(invalid)?;
    uri.query.heartbeat.get_or_insert(heartbeat.0);
    gatekeeper::connect(uri, properties, ahead.clone(), tls).await
}

/// How a node is reached: what its URL says, with the files that it names.
fn way(url: &SecretUrl) -> Result<(AMQPUri, OwnedTLSConfig), String> {
    let mut uri: AMQPUri = url.reveal().parse()?;
    // lapin takes an address of IPv6 for no host at all, and goes to localhost.
    if let Ok(Some(Host::Ipv6(address))) = Url::parse(url.reveal()).map(|url| url.host().map(|host| host.to_owned())) {
        uri.authority.host = address.to_string();
    }
    let pem = tls::read(&tls::of_broker(url))?;
    let identity = pem.identity.map(|(pem, key)| OwnedIdentity::PKCS8 { pem, key });
    let cert_chain = pem.authorities.map(|pem| String::from_utf8_lossy(&pem).into_owned());
    Ok((uri, OwnedTLSConfig { identity, cert_chain }))
}

/// What keeps the broker from answering, for people: "the broker …".
#[must_use]
pub fn cause(error: &lapin::Error) -> String {
    match error.kind() {
        ErrorKind::IOError(error) => {
            let told = tls::explain(error).unwrap_or_else(|| error.to_string());
            format!("the broker is unreachable ({told})")
        }
        ErrorKind::MissingHeartbeatError => "the broker is unreachable (it gave no sign of life)".into(),
        ErrorKind::ProtocolError(told) => format!("the broker refuses: {}", told.get_message()),
        _ => format!("the broker is unreachable ({error})"),
    }
}

/// How long a connection may take to be closed gracefully.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Closes a connection; one that does not answer is left.
pub async fn close(connection: &Connection, why: &str) {
    let _ = tokio::time::timeout(CLOSE_WITHIN, connection.close(200, why.into())).await;
}

/// lapin does not end every request of a connection that breaks, and tells of it only to those who use it; the connection's
/// own state is looked at four times a second.
pub async fn until_lost(connection: &Connection) {
    while connection.status().connected() {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Seconds between two signs of life; `?heartbeat=` in the URL overrides it.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat(u16);

impl Heartbeat {
    /// The most that is used.
    const LONGEST: u16 = 5;

    /// Well under the lease: the broker gives a partition's messages to its next owner only after it has seen that the
    /// former one's connection is dead, which takes it up to three heartbeats.
    #[must_use]
    pub fn under(lease: Duration) -> Self {
        Self(u16::try_from(lease.as_secs() / 5).unwrap_or(u16::MAX).clamp(1, Self::LONGEST))
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self(Self::LONGEST)
    }
}
