//! A network link to a server that can be cut and slowed: its bytes go through a proxy on the loopback interface.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

/// The bytes that are passed on at a time; on a slow link, each time takes the delay.
const PIECE: usize = 16 * 1024;

/// A link to a server. It is gone when this is dropped.
pub struct Link {
    address: SocketAddr,
    condition: watch::Sender<Condition>,
    /// Ends with the link.
    #[expect(dead_code, reason = "kept for its end")]
    accepting: AbortOnDropHandle<()>,
}

#[derive(Clone, Copy, Default)]
struct Condition {
    /// Nothing comes through and nobody is told: the bytes are gone.
    is_cut: bool,
    /// How long each piece is under way.
    delay: Duration,
    /// Connections from before the last cut are dead for good.
    healed: u32,
}

impl Link {
    /// A link to the server of this URL.
    ///
    /// # Errors
    /// A sentence: the URL names no host and port, or no loopback port is free.
    pub async fn to(url: &str) -> Result<Self, String> {
        let (host, port) = server_of(url)?;
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|error| format!("no loopback port: {error}"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let condition = watch::Sender::new(Condition::default());
        let accepting = tokio::spawn(accept(listener, (host, port), condition.subscribe()));
        Ok(Self { address, condition, accepting: AbortOnDropHandle::new(accepting) })
    }

    /// The same URL, through the link.
    ///
    /// # Errors
    /// A sentence: it is no URL with a host.
    pub fn through(&self, url: &str) -> Result<String, String> {
        let no_host = || "the URL has no host".to_owned();
        let mut url = Url::parse(url).map_err(|error| error.to_string())?;
        url.set_host(Some(&self.address.ip().to_string())).map_err(|_| no_host())?;
        url.set_port(Some(self.address.port())).map_err(|()| no_host())?;
        Ok(url.into())
    }

    /// From now on nothing comes through.
    pub fn cut(&self) {
        self.condition.send_modify(|condition| condition.is_cut = true);
    }

    /// New connections come through again; the old ones are reset.
    pub fn heal(&self) {
        self.condition.send_modify(|condition| {
            condition.is_cut = false;
            condition.healed += 1;
        });
    }

    /// From now on each piece is under way for so long, in each direction.
    pub fn set_delay(&self, delay: Duration) {
        self.condition.send_modify(|condition| condition.delay = delay);
    }
}

/// Host and port that a URL of the broker or the database leads to.
fn server_of(url: &str) -> Result<(String, u16), String> {
    let url = Url::parse(url).map_err(|error| error.to_string())?;
    let port = url.port().or(match url.scheme() {
        "amqp" => Some(5672),
        "postgres" | "postgresql" => Some(5432),
        _ => None,
    });
    match (url.host_str(), port) {
        (Some(host), Some(port)) => Ok((host.trim_matches(['[', ']']).to_owned(), port)),
        _ => Err(format!("a link to {}: needs a host, and no TLS", url.scheme())),
    }
}

async fn accept(listener: TcpListener, server: (String, u16), condition: watch::Receiver<Condition>) {
    // Of the connections, each ends with the condition's sender.
    while let Ok((client, _)) = listener.accept().await {
        let (server, condition) = (server.clone(), condition.clone());
        tokio::spawn(async move { connect(client, server, condition).await });
    }
}

async fn connect(client: TcpStream, server: (String, u16), mut condition: watch::Receiver<Condition>) {
    let Ok(healed) = condition.wait_for(|condition| !condition.is_cut).await.map(|condition| condition.healed) else {
        return;
    };
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let mut dead = condition.clone();
    tokio::select! {
        () = copy(from_client, to_server, condition.clone()) => {}
        () = copy(from_server, to_client, condition) => {}
        _ = dead.wait_for(|condition| condition.healed > healed) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, condition: watch::Receiver<Condition>) {
    let mut buffer = vec![0; PIECE];
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else { return };
        let now = *condition.borrow();
        if !now.delay.is_zero() {
            tokio::time::sleep(now.delay).await;
        }
        if !now.is_cut && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
