//! A network link that a test can cut: bytes go through a proxy.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

/// A link to a server. While it is cut, nothing comes through and nobody is told: the bytes are gone.
pub struct Link {
    address: SocketAddr,
    cuts: watch::Sender<Cuts>,
}

#[derive(Clone, Copy, Default)]
struct Cuts {
    is_cut: bool,
    /// Connections from before the last cut are dead for good.
    healed: u32,
}

impl Link {
    /// A link to the server of this URL.
    pub async fn to(url: &str) -> Self {
        let url: Url = url.parse().expect("a URL");
        let server = (url.host_str().expect("a host").to_owned(), url.port().expect("a port"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("a bound port");
        let cuts = watch::Sender::new(Cuts::default());
        let state = cuts.subscribe();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                let (server, state) = (server.clone(), state.clone());
                tokio::spawn(async move { connect(client, server, state).await });
            }
        });
        Self { address, cuts }
    }

    /// The same URL, through the link.
    pub fn through(&self, url: &str) -> String {
        let mut url: Url = url.parse().expect("a URL");
        url.set_host(Some(&self.address.ip().to_string())).expect("a host");
        url.set_port(Some(self.address.port())).expect("a port");
        url.into()
    }

    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| cuts.is_cut = true);
    }

    /// New connections come through again; the old ones are reset.
    pub fn heal(&self) {
        self.cuts.send_modify(|cuts| *cuts = Cuts { is_cut: false, healed: cuts.healed + 1 });
    }
}

async fn connect(client: TcpStream, server: (String, u16), mut state: watch::Receiver<Cuts>) {
    if state.wait_for(|cuts| !cuts.is_cut).await.is_err() {
        return;
    }
    let healed = state.borrow().healed;
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let mut dead = state.clone();
    tokio::select! {
        () = copy(from_client, to_server, state.clone()) => {}
        () = copy(from_server, to_client, state) => {}
        _ = dead.wait_for(|cuts| cuts.healed > healed) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: watch::Receiver<Cuts>) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) if state.borrow().is_cut => {}
            Ok(count) => {
                if to.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
        }
    }
}
