//! The HTTP client: connections, and what an error says of them.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use reqwest::dns::Resolve;
use reqwest::{Proxy, redirect};
use tower_layer::Layer;
use tower_service::Service;
use url::Url;

use super::descriptors::{Descriptors, NoRoom};
use super::names::Unresolved;
use super::progress::{self, Progress};
use super::resolver::Refused;
use crate::domain::destination::{Hidden, HttpVersion};

/// Connections to a host that nothing uses are closed after this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Headers of an answer beyond this make it unreadable; some receivers send hundreds.
const ANSWER_HEADERS: usize = 1_000;
/// A connection of HTTP/2 with open requests is asked so often whether it lives.
const PING_EVERY: Duration = Duration::from_secs(2);

/// How connections are opened.
#[derive(Clone)]
pub(super) struct Connecting {
    pub(super) timeout: Duration,
    pub(super) descriptors: Arc<Descriptors>,
    pub(super) tls: rustls::ClientConfig,
    pub(super) version: HttpVersion,
    /// Instead of the environment's.
    pub(super) proxy: Option<Hidden<Url>>,
}

/// A client for attempts: no redirects, no cookies, no retries of its own.
///
/// # Errors
/// reqwest's, if TLS can't be set up.
pub(super) fn client(
    per_host: usize,
    connecting: &Connecting,
    resolver: Arc<dyn Resolve>,
    by_proxy: bool,
) -> Result<reqwest::Client, reqwest::Error> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("onceward/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(connecting.timeout)
        .pool_max_idle_per_host(per_host)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .http1_max_headers(ANSWER_HEADERS)
        // A connection that has died without a word takes no more requests.
        .http2_keep_alive_interval(PING_EVERY)
        .http2_keep_alive_timeout(connecting.timeout)
        .tcp_nodelay(true)
        .tls_backend_preconfigured(connecting.tls.clone())
        .dns_resolver(resolver)
        .connector_layer(NoteConnects(connecting.descriptors.clone()));
    let builder = match connecting.version {
        HttpVersion::Auto => builder,
        HttpVersion::One => builder.http1_only(),
        HttpVersion::Two => builder.http2_prior_knowledge(),
    };
    match &connecting.proxy {
        _ if !by_proxy => builder.no_proxy(),
        None => builder,
        Some(Hidden(proxy)) => builder.proxy(Proxy::all(proxy.clone())?),
    }
    .build()
}

/// Sends a request.
pub(super) async fn execute(
    client: &reqwest::Client,
    request: reqwest::Request,
    progress: Arc<Progress>,
) -> Result<reqwest::Response, reqwest::Error> {
    progress::within(progress, client.execute(request)).await
}

/// Notes for whoever waits for a connection that one is being opened. One to a literal address is opened only if there is
/// room; for others, the resolver sees to that when the address is known.
#[derive(Clone)]
struct NoteConnects(Arc<Descriptors>);

#[derive(Clone)]
struct Noting<S>(S, Arc<Descriptors>);

impl<S> Layer<S> for NoteConnects {
    type Service = Noting<S>;

    fn layer(&self, connector: S) -> Noting<S> {
        Noting(connector, self.0.clone())
    }
}

type BoxError = Box<dyn Error + Send + Sync>;

impl<S, R> Service<R> for Noting<S>
where
    S: Service<R, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: R) -> Self::Future {
        let is_literal = progress::connects();
        // The one that is ready is called; its copy may not be.
        let copy = self.0.clone();
        let mut connector = std::mem::replace(&mut self.0, copy);
        let descriptors = self.1.clone();
        Box::pin(async move {
            if is_literal {
                descriptors.open_one().await?;
            }
            connector.call(request).await
        })
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

/// The causes of an error, the outermost first. What the system's errors wrap is among them.
pub(super) fn causes(error: &reqwest::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(error.source(), |error| below(*error))
}

fn below<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// The cause of this type.
pub(super) fn cause<E: Error + 'static>(error: &reqwest::Error) -> Option<&E> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// Looks for what is behind an error.
pub(super) fn trouble(error: &reqwest::Error) -> Trouble {
    for error in causes(error) {
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
        } else if error.is::<NoRoom>() || error.downcast_ref() == Some(&Refused::Unresolved(Unresolved::Busy)) {
            return Trouble::Shortage;
        }
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
