//! An address that leads to one server now and to another one later, as a virtual one or a proxy does.

use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

/// The address; it leads nowhere any more when dropped.
pub struct Address {
    url: Url,
    state: Arc<watch::Sender<State>>,
    _listening: AbortOnDropHandle<()>,
}

/// What becomes of the connections that are there when an address moves.
#[derive(Clone, Copy, Debug)]
pub enum Before {
    /// They break: nobody knows of them at the new place.
    Cut,
    /// They lead where they did.
    Kept,
}

#[derive(Clone, Debug)]
struct State {
    /// A port of this machine.
    leads_to: u16,
    /// How often connections were cut.
    cuts: u32,
    /// Ports whose connections carry nothing, and do not break either.
    silent: Vec<u16>,
}

impl Address {
    /// Leads to the server of this URL.
    pub async fn of(server: &Url) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let mut url = server.clone();
        let port = listener.local_addr().expect("a bound port").port();
        url.set_port(Some(port)).expect("a URL with a host");
        let leads_to = server.port().expect("a URL with a port");
        let state = Arc::new(watch::Sender::new(State { leads_to, cuts: 0, silent: Vec::new() }));
        let watched = state.clone();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(carry(stream, watched.subscribe()));
            }
        });
        Self { url, state, _listening: AbortOnDropHandle::new(listening) }
    }

    pub fn url(&self) -> Url {
        self.url.clone()
    }

    /// From now on it leads there.
    pub fn move_to(&self, port: u16, before: Before) {
        self.state.send_modify(|state| {
            state.leads_to = port;
            state.cuts += u32::from(matches!(before, Before::Cut));
        });
    }

    /// Whatever is sent to or from this port is on its way until [`Self::hear`].
    pub fn silence(&self, port: u16) {
        self.state.send_modify(|state| state.silent.push(port));
    }

    /// What was on its way arrives.
    pub fn hear(&self, port: u16) {
        self.state.send_modify(|state| state.silent.retain(|silent| *silent != port));
    }
}

async fn carry(mut stream: TcpStream, mut state: watch::Receiver<State>) {
    let State { leads_to, cuts, .. } = state.borrow_and_update().clone();
    let carrying = async {
        let mut server = TcpStream::connect(("127.0.0.1", leads_to)).await?;
        copy_bidirectional(&mut stream, &mut server).await
    };
    tokio::pin!(carrying);
    loop {
        let is_silent = {
            let now = state.borrow_and_update();
            if now.cuts != cuts {
                return;
            }
            now.silent.contains(&leads_to)
        };
        tokio::select! {
            _ = &mut carrying, if !is_silent => return,
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}
