//! A network link to a server that can be cut and slowed: its bytes go through a proxy on the loopback interface. One to
//! PostgreSQL can lose commits, so that a client has to find out whether they took place.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use self::commits::Commits;
pub use self::commits::{Commit, Lost, Then, Which};
use self::connection::Connection;

mod commits;
mod connection;
pub mod frontend;

/// A link to a server. It is gone when this is dropped.
pub struct Link {
    address: SocketAddr,
    condition: watch::Sender<Condition>,
    commits: Arc<Commits>,
    /// Ends with the link, and every connection with it.
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
        let commits = Arc::new(Commits::new());
        let accepting = tokio::spawn(accept(listener, (host, port), condition.clone(), Arc::clone(&commits)));
        Ok(Self { address, condition, commits, accepting: AbortOnDropHandle::new(accepting) })
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

    /// What becomes of the next commits of this kind, one after the other; then they pass again. It takes the place of what
    /// was said before. Only on a link to PostgreSQL, without TLS.
    pub fn on_commits<Fates>(&self, which: Which, fates: Fates)
    where
        Fates: IntoIterator<Item = Commit>,
        Fates::IntoIter: Send + 'static,
    {
        self.commits.plan(which, fates.into_iter());
    }

    /// How many commits were lost so far: an answer is, once the server has given it.
    #[must_use]
    pub fn lost_commits(&self) -> u64 {
        *self.commits.lost().borrow()
    }

    /// Waits until so many commits were lost.
    pub async fn until_lost(&self, count: u64) {
        // An end of the wait is the end of the link, which we hold.
        let _ = self.commits.lost().wait_for(|lost| *lost >= count).await;
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

async fn accept(
    listener: TcpListener,
    server: (String, u16),
    condition: watch::Sender<Condition>,
    commits: Arc<Commits>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(connect(client, server.clone(), condition.clone(), Arc::clone(&commits)));
    }
}

async fn connect(client: TcpStream, server: (String, u16), condition: watch::Sender<Condition>, commits: Arc<Commits>) {
    let mut changes = condition.subscribe();
    let Ok(healed) = changes.wait_for(|condition| !condition.is_cut).await.map(|condition| condition.healed) else {
        return;
    };
    let Ok(server) = TcpStream::connect(server).await else { return };
    let connection = Connection::new(condition, healed, commits);
    tokio::select! {
        () = connection.carry(client, server) => {}
        _ = changes.wait_for(|condition| condition.healed != healed) => {}
    }
}

#[cfg(test)]
mod tests;
