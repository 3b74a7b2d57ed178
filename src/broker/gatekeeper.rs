//! A gatekeeper on the wire: looks at what the broker sends before the AMQP library does.
//!
//! To the broker, a message is bytes that any producer may have made; the library takes some of them for text, calls itself for
//! each level of nested tables, and reads a body of any size. So frames are looked at first: a message that can't be read, or is
//! too large, is replaced by an empty one that is marked beside the stream ([`ahead::Ahead`]), and its consumer rejects it. And
//! nothing is read from the socket while too much has been read that is not recorded.

pub mod ahead;
pub mod properties;
mod sieve;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use async_rs::{Runtime, Tokio};
use futures_util::Stream;
use futures_util::io::{AsyncRead, AsyncWrite};
use lapin::tcp::{AMQPUriTcpExt as _, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use tokio::time::{Interval, MissedTickBehavior};

use ahead::Ahead;
use sieve::{Sieve, Stopped};

/// How often the library gets a sign of life while the broker is held up: the shortest heartbeat is a second.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);

/// Connects to a broker; whatever it sends is looked at.
///
/// # Errors
/// lapin's, if the broker can't be reached or refuses.
pub async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    ahead: Arc<Ahead>,
    tls: OwnedTLSConfig,
) -> Result<Connection, lapin::Error> {
    let guarded = Runtime::new(Guarded(Tokio::current()));
    let connect = async move |uri: AMQPUri, _| {
        let socket = open(&uri, &tls).await?;
        Ok(AsyncTcpStream::Plain(Gatekeeper::new(socket, ahead.clone())))
    };
    Connection::connector(uri, guarded, connect, properties).await
}

/// Opens a socket to a broker, with TLS if its URL says so.
///
/// # Errors
/// The system's, or those of TLS.
pub async fn open(uri: &AMQPUri, tls: &OwnedTLSConfig) -> io::Result<Socket> {
    uri.connect_with_config_async(tls.as_ref(), &Runtime::new(Tokio::current())).await
}

/// A socket without a gatekeeper.
pub type Socket = AsyncTcpStream<<Tokio as Reactor>::TcpStream>;

/// A socket (with TLS, where it is used) whose incoming frames are looked at.
struct Gatekeeper {
    socket: Socket,
    sieve: Sieve,
    ahead: Arc<Ahead>,
    /// When the library gets the next sign of life, while the broker is held up.
    sign_of_life: Interval,
}

impl Gatekeeper {
    fn new(socket: Socket, ahead: Arc<Ahead>) -> Self {
        let mut sign_of_life = tokio::time::interval(SIGN_OF_LIFE);
        sign_of_life.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { socket, sieve: Sieve::default(), ahead, sign_of_life }
    }

    /// Waits until there is room for further messages, and gives signs of life meanwhile.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.ahead.wake_when_room(context.waker());
        // Room may have come before the waker was known.
        if !self.ahead.is_full() {
            return Poll::Ready(());
        }
        ready!(self.sign_of_life.poll_tick(context));
        self.sieve.heartbeat();
        Poll::Ready(())
    }
}

impl AsyncRead for Gatekeeper {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            let (filled, stopped) = this.sieve.sift(out, &this.ahead)?;
            if filled > 0 || out.is_empty() {
                return Poll::Ready(Ok(filled));
            }
            if stopped == Stopped::Held {
                ready!(this.poll_room(context));
                continue;
            }
            let read = ready!(Pin::new(&mut this.socket).poll_read(context, this.sieve.room()))?;
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            this.sieve.fill(read);
        }
    }
}

impl AsyncWrite for Gatekeeper {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(context)
    }
}

/// tokio, as lapin takes it, with our kind of socket.
#[derive(Clone, Debug)]
struct Guarded(Tokio);

impl RuntimeKit for Guarded {}

impl Executor for Guarded {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(&self, future: F) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(&self, work: F) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

impl Reactor for Guarded {
    type TcpStream = Gatekeeper;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: io::Read + io::Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = std::time::Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.0.tcp_connect_addr(address);
        async { Ok(Gatekeeper::new(AsyncTcpStream::Plain(connecting.await?), Arc::default())) }
    }
}
