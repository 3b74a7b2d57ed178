//! The HTTP client: connections, and what an error says of them.

use std::cell::Cell;
use std::error::Error;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use reqwest::redirect;
use tower_layer::Layer;
use tower_service::Service;

/// Connections to a host that nothing uses are closed after this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Headers of an answer beyond this make it unreadable; some receivers send hundreds.
const ANSWER_HEADERS: usize = 1_000;
/// A connection of HTTP/2 with open requests is asked so often whether it lives.
const PING_EVERY: Duration = Duration::from_secs(2);

tokio::task_local! {
    /// Whether a connection was opened for the request that is being sent.
    static CONNECTED: Cell<bool>;
}

/// The client for all attempts: no redirects, no cookies, no retries of its own.
///
/// # Errors
/// reqwest's, if TLS can't be set up.
pub fn client(per_host: usize, timeout: Duration) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .user_agent(concat!("onceward/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(timeout)
        .pool_max_idle_per_host(per_host)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http1_max_headers(ANSWER_HEADERS)
        // A connection that has died without a word takes no more requests.
        .http2_keep_alive_interval(PING_EVERY)
        .http2_keep_alive_timeout(timeout)
        .tcp_nodelay(true)
        .connector_layer(NoteConnects)
        .build()
}

/// Sends a request, and says whether a connection was opened for it.
pub(super) async fn execute(
    client: &reqwest::Client,
    request: reqwest::Request,
) -> (Result<reqwest::Response, reqwest::Error>, bool) {
    CONNECTED
        .scope(Cell::new(false), async {
            let response = client.execute(request).await;
            (response, CONNECTED.with(Cell::get))
        })
        .await
}

/// Notes for whoever waits for a connection that one is being opened.
#[derive(Clone)]
struct NoteConnects;

#[derive(Clone)]
struct Noting<S>(S);

impl<S> Layer<S> for NoteConnects {
    type Service = Noting<S>;

    fn layer(&self, connector: S) -> Noting<S> {
        Noting(connector)
    }
}

impl<S: Service<R>, R> Service<R> for Noting<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> S::Future {
        let _ = CONNECTED.try_with(|connected| connected.set(true));
        self.0.call(request)
    }
}

/// What an error says of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The receiver has closed it before it answered. Of a connection that was kept, it had most likely done so before the
    /// request came (RFC 9112 §9.3.1).
    Closed,
    /// The receiver has said that it did nothing about the request (RFC 9113 §8.7).
    Refused,
    /// This machine is short of something.
    Shortage,
    /// Anything else.
    Other,
}

/// Looks for what is behind an error.
pub(super) fn trouble(error: &reqwest::Error) -> Trouble {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            if let Some(trouble) = of_the_system(error) {
                return trouble;
            }
        } else if let Some(error) = error.downcast_ref::<h2::Error>() {
            let reason = error.reason();
            if error.is_remote() && (reason == Some(h2::Reason::REFUSED_STREAM) || is_peaceful_end(error)) {
                return Trouble::Refused;
            }
        } else if let Some(error) = error.downcast_ref::<hyper::Error>()
            && (error.is_incomplete_message() || error.is_canceled() || error.is_closed())
        {
            return Trouble::Closed;
        }
        cause = error.source();
    }
    Trouble::Other
}

/// A GOAWAY without an error: streams above the last one that it names were not looked at.
fn is_peaceful_end(error: &h2::Error) -> bool {
    error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR)
}

fn of_the_system(error: &io::Error) -> Option<Trouble> {
    use rustix::io::Errno;
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::ADDRNOTAVAIL];
    if error.raw_os_error().is_some_and(|code| shortages.iter().any(|shortage| shortage.raw_os_error() == code)) {
        return Some(Trouble::Shortage);
    }
    let closed = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionAborted];
    closed.contains(&error.kind()).then_some(Trouble::Closed)
}
