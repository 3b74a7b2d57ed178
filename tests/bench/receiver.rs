//! The receiver: a lean HTTP server in a process of its own, which counts, and looks at the order.
//!
//! It tells the run on its standard output when the first event has come and when all have, and reports when it is asked
//! to on its standard input. It ends with its standard input, and so with the run, whatever happens to that.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::load::address;
use super::stamp::{Group, Stamp};
use super::{Fallible, clock};

/// How the receiver behaves.
#[derive(Clone, Debug, Args)]
pub struct ReceiverArgs {
    /// Addresses that it listens on, all with one port.
    #[arg(long, default_value_t = 1)]
    pub hosts: u32,
    /// The last host takes requests and never answers.
    #[arg(long)]
    pub last_hangs: bool,
    /// No host answers.
    #[arg(long)]
    pub all_hang: bool,
    /// Of how many in a hundred events the first attempt is answered 503.
    #[arg(long, default_value_t = 0)]
    pub fail: u32,
    /// Says so when that many events have been answered 2xx.
    #[arg(long)]
    pub expect: u32,
    /// The sender promises no order.
    #[arg(long)]
    pub unordered: bool,
    /// Whatever comes is answered 200 and forgotten: a collector of telemetry.
    #[arg(long)]
    pub swallow: bool,
}

impl ReceiverArgs {
    /// One host that answers everything.
    pub fn expecting(events: u32) -> Self {
        Self { hosts: 1, last_hangs: false, all_hang: false, fail: 0, expect: events, unordered: false, swallow: false }
    }
}

/// What the receiver says.
#[derive(Debug, Serialize, Deserialize)]
pub enum Line {
    /// It listens on this port.
    Listening(u16),
    /// The first event has come.
    First,
    /// All that are expected have been answered 2xx.
    Done,
    /// It was asked to.
    Report(Report),
}

/// What has come so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub usual: Count,
    pub special: Count,
    /// Requests in all.
    pub requests: u64,
    /// First attempts that were answered 503.
    pub failed: u64,
    /// Events that came before one that had to precede them.
    pub out_of_order: u64,
    /// Events that came again after a 2xx.
    pub again: u64,
    /// From the moment at which an event was due to be published, in milliseconds.
    pub latency: Option<Latency>,
}

/// The events of a group that were answered 2xx.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Count {
    pub events: u64,
    first: Option<Duration>,
    last: Duration,
}

impl Count {
    /// Events a second, from the first to the last.
    pub fn rate(&self) -> f64 {
        let seconds = self.last.saturating_sub(self.first.unwrap_or(self.last)).as_secs_f64();
        if seconds > 0.0 { self.events.saturating_sub(1) as f64 / seconds } else { 0.0 }
    }

    /// Both groups together.
    pub fn with(&self, other: &Self) -> Self {
        Self {
            events: self.events + other.events,
            first: self.first.into_iter().chain(other.first).min(),
            last: self.last.max(other.last),
        }
    }

    fn add(&mut self, now: Duration) {
        self.events += 1;
        self.first.get_or_insert(now);
        self.last = now;
    }
}

/// Quantiles in milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

struct Seen {
    args: ReceiverArgs,
    /// Of each entity, the number that has to come next.
    next: Vec<u32>,
    report: Report,
    latency: Histogram<u64>,
}

impl Seen {
    /// Notes a request, and gives the status of the answer.
    fn arrive(&mut self, body: Option<&[u8]>, is_first_attempt: bool) -> StatusCode {
        let now = clock::now();
        self.report.requests += 1;
        if self.args.swallow {
            return StatusCode::OK;
        }
        let Some(stamp) = body.and_then(Stamp::read) else { return StatusCode::BAD_REQUEST };
        if self.report.requests == 1 {
            say(&Line::First);
        }
        let entity = stamp.entity as usize;
        if self.next.len() <= entity {
            self.next.resize(entity + 1, 0);
        }
        let next = self.next[entity];
        if !self.args.unordered && stamp.number < next {
            self.report.again += 1;
            return StatusCode::OK;
        }
        if !self.args.unordered && stamp.number > next {
            self.report.out_of_order += 1;
        }
        // The index is the place in a random load: every hundredth is as good a choice as any.
        if is_first_attempt && stamp.index % 100 < self.args.fail {
            self.report.failed += 1;
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        self.next[entity] = stamp.number + 1;
        self.count(&stamp, now);
        StatusCode::OK
    }

    fn count(&mut self, stamp: &Stamp, now: Duration) {
        if stamp.group == Group::Usual && !stamp.due.is_zero() {
            let micros = u64::try_from(now.saturating_sub(stamp.due).as_micros()).unwrap_or(u64::MAX);
            self.latency.saturating_record(micros.max(1));
        }
        match stamp.group {
            Group::Usual => self.report.usual.add(now),
            Group::Special => self.report.special.add(now),
        }
        if self.report.usual.events + self.report.special.events == u64::from(self.args.expect) {
            say(&Line::Done);
        }
    }

    fn report(&self) -> Report {
        let at = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1_000.0;
        let latency = || Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1.0) };
        Report { latency: (!self.latency.is_empty()).then(latency), ..self.report.clone() }
    }
}

fn say(line: &Line) {
    let mut out = std::io::stdout().lock();
    // Without anybody who reads it, the end of standard input is near.
    let _ = serde_json::to_writer(&mut out, line).map(|()| writeln!(out).and_then(|()| out.flush()));
}

/// Serves until standard input ends.
pub async fn run(args: ReceiverArgs) -> Fallible<()> {
    let listeners = listen(args.hosts).await?;
    let port = listeners.first().ok_or("no host")?.local_addr()?.port();
    // Microseconds, up to an hour.
    let latency = Histogram::new_with_bounds(1, 3_600_000_000, 3)?;
    let seen = Rc::new(RefCell::new(Seen { args: args.clone(), next: Vec::new(), report: Report::default(), latency }));
    let local = tokio::task::LocalSet::new();
    for (host, listener) in (1..).zip(listeners) {
        let hangs = args.all_hang || (args.last_hangs && host == args.hosts);
        local.spawn_local(accept(listener, Rc::clone(&seen), hangs));
    }
    say(&Line::Listening(port));
    let asked = async {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while lines.next_line().await?.is_some() {
            let report = seen.borrow().report();
            say(&Line::Report(report));
        }
        Ok(())
    };
    local.run_until(asked).await
}

/// All on one port, each on a loopback address of its own.
async fn listen(hosts: u32) -> Fallible<Vec<TcpListener>> {
    let first = TcpListener::bind((address(0), 0)).await?;
    let port = first.local_addr()?.port();
    let mut listeners = vec![first];
    for host in 1..hosts {
        let address = SocketAddr::from((address(host), port));
        listeners.push(TcpListener::bind(address).await.map_err(|error| format!("listening on {address}: {error}"))?);
    }
    Ok(listeners)
}

async fn accept(listener: TcpListener, seen: Rc<RefCell<Seen>>, hangs: bool) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::task::spawn_local(serve(stream, Rc::clone(&seen), hangs))),
            Err(error) => {
                eprintln!("the receiver can't accept a connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, seen: Rc<RefCell<Seen>>, hangs: bool) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| answer(request, Rc::clone(&seen), hangs));
    // A connection that breaks is the sender's to mend.
    let _ = hyper::server::conn::http1::Builder::new()
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    request: Request<Incoming>,
    seen: Rc<RefCell<Seen>>,
    hangs: bool,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let is_first_attempt = request.headers().get("onceward-attempt").is_some_and(|number| number == "1");
    let beginning = read(request.into_body()).await;
    if hangs {
        std::future::pending::<()>().await;
    }
    let status = seen.borrow_mut().arrive(beginning.as_deref(), is_first_attempt);
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    Ok(response)
}

/// Reads all of a body, and keeps its beginning. None if it broke off.
async fn read(mut body: Incoming) -> Option<Bytes> {
    let mut beginning = Bytes::new();
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.ok()?.into_data() else { continue };
        if beginning.is_empty() {
            beginning = piece;
        } else if beginning.len() < Stamp::BYTES {
            beginning = [beginning, piece].concat().into();
        }
    }
    Some(beginning)
}
