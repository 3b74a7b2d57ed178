//! The receiver: a port for each host, which answers each attempt as planned.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::args::VerifyArgs;
use super::watch::Watch;
use crate::proof::load::Answer;

/// The pause before another try.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the body of a slow answer takes.
const SLOW: Duration = Duration::from_millis(500);

/// The hosts of a run.
pub(super) struct Receivers {
    urls: Vec<String>,
    /// The first host is unreachable.
    away: Arc<AtomicBool>,
    /// The first host refuses connections.
    down: watch::Sender<bool>,
}

impl Receivers {
    /// Where events of a host go.
    pub(super) fn url(&self, host: u16) -> &str {
        &self.urls[usize::from(host)]
    }

    /// Lets the first host go away, or come back.
    pub(super) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Release);
    }

    /// Lets the first host refuse connections, or listen again.
    pub(super) fn set_down(&self, down: bool) {
        self.down.send_replace(down);
    }
}

/// Why a connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("as planned")]
struct HangUp;

/// Starts a server for each host, until `stop`.
pub(super) async fn start(
    args: &VerifyArgs,
    watch: &Arc<Watch>,
    stop: &CancellationToken,
) -> Result<Receivers, String> {
    let (away, down) = (Arc::new(AtomicBool::new(false)), watch::Sender::new(false));
    let mut urls = Vec::new();
    for host in 0..args.hosts {
        let listener = TcpListener::bind(SocketAddr::new(args.listen, 0)).await;
        let listener = listener.map_err(|error| format!("cannot listen on {}: {error}", args.listen))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let name = args.advertise.clone().unwrap_or_else(|| match address {
            SocketAddr::V4(address) => address.ip().to_string(),
            SocketAddr::V6(address) => format!("[{}]", address.ip()),
        });
        urls.push(format!("http://{name}:{}/verify", address.port()));
        let (away, down) =
            if host == 0 { (away.clone(), down.subscribe()) } else { (Arc::default(), watch::channel(false).1) };
        let host = Host { seen: watch.clone(), away, down };
        tokio::spawn(stop.clone().run_until_cancelled_owned(serve((listener, address), host)));
    }
    Ok(Receivers { urls, away, down })
}

/// What a host needs.
#[derive(Clone)]
struct Host {
    seen: Arc<Watch>,
    away: Arc<AtomicBool>,
    down: watch::Receiver<bool>,
}

async fn serve((mut listener, address): (TcpListener, SocketAddr), mut host: Host) {
    loop {
        tokio::select! {
            () = until(&mut host.down, true) => {
                drop(listener);
                until(&mut host.down, false).await;
                listener = listen_again(address).await;
            }
            // Out of file handles, for example: the sender tries again, as it does with any receiver.
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if !host.away.load(Ordering::Acquire) => drop(tokio::spawn(connection(stream, host.clone()))),
                Ok(_) => {}
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
        }
    }
}

/// Waits until a host is down, or not. For one that never is, until its end.
async fn until(down: &mut watch::Receiver<bool>, is: bool) {
    if down.wait_for(|down| *down == is).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The port was this host's, and is nobody else's as long as the system gives out others.
async fn listen_again(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn connection(stream: TcpStream, host: Host) {
    let _ = stream.set_nodelay(true);
    let Host { seen, away, mut down } = host;
    let service = service_fn(move |request| answer(request, seen.clone(), away.clone()));
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // Its errors are planned, or the sender's.
    tokio::select! {
        _ = serving => {}
        () = until(&mut down, true) => {}
    }
}

type Answered = Result<Response<BoxBody<Bytes, Infallible>>, HangUp>;

async fn answer(request: http::Request<Incoming>, watch: Arc<Watch>, away: Arc<AtomicBool>) -> Answered {
    let started = watch.now();
    let (head, body) = request.into_parts();
    if away.load(Ordering::Acquire) {
        return Err(HangUp);
    }
    let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if let Some(number) = watch.hostile_of_key(text("idempotency-key")) {
        let Ok(_) = body.collect().await else { return Err(HangUp) };
        watch.hostile(number, |hostile| hostile.delivered += 1);
        return Ok(respond(StatusCode::OK, "ok\n"));
    }
    let Some(index) = watch.index_of(text("idempotency-key")) else {
        return Ok(respond(StatusCode::NOT_FOUND, "not of this run\n"));
    };
    let Ok(body) = body.collect().await else { return Err(HangUp) };
    let attempt = text("onceward-attempt").parse().unwrap_or(0);
    let intact = watch.is_intact(index, &body.to_bytes());
    let number = watch.begun(index, attempt, intact, trace_id(&head.headers), started);
    let mut open = Open { watch, number, answer: None };
    let planned = open.watch.load().answer(index, attempt);
    if planned == Answer::Timeout {
        // Ends when the sender leaves, and takes this future with it.
        std::future::pending::<()>().await;
    }
    open.answer = Some(planned);
    drop(open);
    match planned {
        Answer::Ok => Ok(respond(StatusCode::OK, "ok\n")),
        Answer::SlowBody => Ok(slowly()),
        Answer::ServerError => Ok(respond(StatusCode::INTERNAL_SERVER_ERROR, "failed, as planned\n")),
        Answer::TooManyRequests => {
            let mut response = respond(StatusCode::TOO_MANY_REQUESTS, "later, as planned\n");
            response.headers_mut().insert(http::header::RETRY_AFTER, 1.into());
            Ok(response)
        }
        Answer::Reset | Answer::Timeout => Err(HangUp),
    }
}

fn respond(status: StatusCode, text: &'static str) -> Response<BoxBody<Bytes, Infallible>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())).boxed());
    *response.status_mut() = status;
    response
}

fn slowly() -> Response<BoxBody<Bytes, Infallible>> {
    let rest = stream::once(async {
        tokio::time::sleep(SLOW).await;
        Ok(Frame::data(Bytes::from_static(b"ok, slowly\n")))
    });
    Response::new(BoxBody::new(StreamBody::new(rest)))
}

/// W3C Trace Context, 3.2.2.3: the second part.
fn trace_id(headers: &HeaderMap) -> String {
    let traceparent = headers.get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    traceparent.split('-').nth(1).unwrap_or_default().to_owned()
}

/// A request that is open; its end is noted also when the sender leaves.
struct Open {
    watch: Arc<Watch>,
    number: usize,
    answer: Option<Answer>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.watch.ended(self.number, self.answer);
    }
}
