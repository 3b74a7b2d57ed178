//! The HTTP clients of receivers that have their connections' settings in common: which one a request goes by, and when
//! connections are given up.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Client;
use reqwest::dns::Resolve;
use url::{Host, Url};

use super::client::{self, Connecting};
use super::descriptors::Descriptors;
use super::names::{Names, Unresolved};
use super::own::OwnAddresses;
use super::resolver::{Guarded, OWN_UNKNOWN, OfProxies, Refused};
use super::tls;
use crate::clock;
use crate::domain::destination::Transport;
use crate::domain::guard::Guard;

/// The least part of their life that connections have, in percent: workers that start together don't connect anew together.
const LEAST_LIFE: u64 = 80;
/// A shortage closes idle connections so often at most.
const CLOSED_EVERY: Duration = Duration::from_secs(1);

/// The settings of the clients.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Which destinations are not called.
    pub guard: Arc<Guard>,
    /// Name servers; none are the system's.
    pub name_servers: Vec<SocketAddr>,
    /// How long a connection is used at most.
    pub connection_life: Duration,
    /// Idle connections that are kept to one host.
    pub per_host: usize,
    /// For connecting, and for a look-up.
    pub attempt_timeout: Duration,
}

/// Why there are no clients.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// There is nobody to trust.
    #[error(
        "no certificate authorities are known on this system, and TLS needs some: install ca-certificates, or name a file of \
         them by SSL_CERT_FILE"
    )]
    NoAuthorities,
    /// Certificates can't be read.
    #[error("TLS: {0}")]
    Tls(rustls::Error),
    /// reqwest's.
    #[error(transparent)]
    Client(#[from] reqwest::Error),
}

impl From<rustls::Error> for SetUpError {
    fn from(error: rustls::Error) -> Self {
        match error {
            // As the verifier calls it.
            rustls::Error::General(what) if what.starts_with("No CA certificates") => Self::NoAuthorities,
            error => Self::Tls(error),
        }
    }
}

/// What all pools share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) names: Names,
    pub(super) own: OwnAddresses,
    pub(super) descriptors: Arc<Descriptors>,
}

/// The clients, and what they are made of.
pub(super) struct Pool {
    settings: ClientSettings,
    guarded: Guarded,
    own: OwnAddresses,
    /// None goes straight to its receivers.
    proxies: Option<Proxies>,
    connecting: Connecting,
    /// Its connections are kept.
    kept: RwLock<Kept>,
    /// Keeps no connections.
    fresh: Client,
    /// The same for URLs with a port of our own servers.
    away_from_own: Client,
    /// Through a proxy, keeping no connections.
    fresh_by_proxy: Option<Client>,
    /// For servers that the operator names: no guard is asked.
    of_operators: Client,
}

#[derive(Clone)]
struct Kept {
    direct: Client,
    by_proxy: Option<Client>,
    since: Duration,
    until: Duration,
}

/// Which proxies there are.
enum Proxies {
    /// The settings name one.
    Settings,
    /// Those that the environment names.
    Environment(Box<Matcher>),
}

/// How a request gets to its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Direct,
    /// Its port is one of our own servers'.
    AwayFromOwn,
    Proxy,
}

impl Pool {
    /// Sets up what attempts are sent by.
    ///
    /// # Errors
    /// TLS can't be set up.
    pub(super) fn new(settings: ClientSettings, shared: Shared, transport: &Transport) -> Result<Self, SetUpError> {
        let Shared { names, own, descriptors } = shared;
        let guarded = Guarded { names, guard: settings.guard.clone(), descriptors: descriptors.clone(), own: None };
        let connecting = Connecting {
            timeout: settings.attempt_timeout,
            descriptors: descriptors.clone(),
            tls: tls::config(transport)?,
            version: transport.version,
            proxy: transport.proxy.clone(),
        };
        let proxies = match &transport.proxy {
            Some(_) => Some(Proxies::Settings),
            None => environment().map(Box::new).map(Proxies::Environment),
        };
        let direct = |resolver: Guarded| client::client(0, &connecting, Arc::new(resolver), false);
        let by_proxy =
            || client::client(0, &connecting, Arc::new(OfProxies(guarded.names.clone(), descriptors.clone())), true);
        let (fresh, away_from_own) =
            (direct(guarded.clone())?, direct(Guarded { own: Some(own.clone()), ..guarded.clone() })?);
        let fresh_by_proxy = proxies.as_ref().map(|_| by_proxy()).transpose()?;
        let of_operators = by_proxy()?;
        let kept = kept(&settings, &guarded, &connecting, proxies.is_some())?;
        Ok(Self {
            settings,
            guarded,
            own,
            proxies,
            connecting,
            kept: RwLock::new(kept),
            fresh,
            away_from_own,
            fresh_by_proxy,
            of_operators,
        })
    }

    /// Judges what is known before a connection, and finds the way of a request.
    pub(super) async fn way(&self, url: &Url) -> Result<Way, Refused> {
        let guard = &self.settings.guard;
        guard.judge_url(url).map_err(Refused::Forbidden)?;
        let port = url.port_or_known_default().unwrap_or_default();
        let is_own_port = guard.own_at(port).next().is_some();
        let address = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => None,
        };
        // No resolver sees a literal.
        if let Some(address) = address.filter(|_| is_own_port) {
            match self.own.judge(address).await {
                Ok(()) => {}
                Err(Some(forbidden)) => return Err(Refused::Forbidden(forbidden)),
                Err(None) => return Err(Refused::Unresolved(Unresolved::Failed(OWN_UNKNOWN.into()))),
            }
        }
        if self.is_by_proxy(url) {
            if let Some(Host::Domain(name)) = url.host() {
                // The proxy resolves the name by itself, and may choose any of its addresses.
                let own = is_own_port.then(|| self.own.clone());
                Guarded { own, ..self.guarded.clone() }.all_allowed(name).await?;
            }
            return Ok(Way::Proxy);
        }
        Ok(if is_own_port { Way::AwayFromOwn } else { Way::Direct })
    }

    fn is_by_proxy(&self, url: &Url) -> bool {
        match &self.proxies {
            None => false,
            Some(Proxies::Settings) => true,
            Some(Proxies::Environment(proxies)) => {
                url.as_str().parse().is_ok_and(|uri| proxies.intercept(&uri).is_some())
            }
        }
    }

    /// A client that keeps its connections, as long as there are descriptors for them.
    pub(super) fn kept(&self, way: Way) -> Client {
        if way == Way::AwayFromOwn {
            return self.away_from_own.clone();
        }
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (now, are_scarce) = (clock::now(), self.connecting.descriptors.are_scarce());
        if now >= kept.until || (are_scarce && now >= kept.since + CLOSED_EVERY) {
            self.replace();
        }
        match (way, kept.by_proxy) {
            _ if are_scarce => self.fresh(way),
            (Way::Proxy, Some(by_proxy)) => by_proxy,
            _ => kept.direct,
        }
    }

    /// For servers that the operator names, such as those that give out tokens: they may be anywhere.
    pub(super) fn of_operators(&self) -> Client {
        self.of_operators.clone()
    }

    /// A client without kept connections.
    pub(super) fn fresh(&self, way: Way) -> Client {
        match (way, &self.fresh_by_proxy) {
            (Way::AwayFromOwn, _) => self.away_from_own.clone(),
            (Way::Proxy, Some(by_proxy)) => by_proxy.clone(),
            _ => self.fresh.clone(),
        }
    }

    /// The machine is short of something: idle connections are closed.
    pub(super) fn close_idle(&self) {
        let since = self.kept.read().unwrap_or_else(PoisonError::into_inner).since;
        if clock::now() >= since + CLOSED_EVERY {
            self.replace();
        }
    }

    /// Puts a new client in place of the one that keeps connections; those of the old one end with their requests.
    fn replace(&self) {
        // Another attempt does it.
        let Ok(mut kept) = self.kept.try_write() else { return };
        if clock::now() < kept.until.min(kept.since + CLOSED_EVERY) {
            return;
        }
        match self::kept(&self.settings, &self.guarded, &self.connecting, self.proxies.is_some()) {
            Ok(new) => *kept = new,
            Err(error) => {
                tracing::warn!(%error, "the HTTP client can't be set up anew; the old one is used");
                kept.since = clock::now();
            }
        }
    }
}

fn kept(
    settings: &ClientSettings,
    guarded: &Guarded,
    connecting: &Connecting,
    has_proxies: bool,
) -> Result<Kept, reqwest::Error> {
    let client =
        |resolver: Arc<dyn Resolve>, by_proxy| client::client(settings.per_host, connecting, resolver, by_proxy);
    let direct = client(Arc::new(guarded.clone()), false)?;
    let proxies = || OfProxies(guarded.names.clone(), guarded.descriptors.clone());
    let by_proxy = has_proxies.then(|| client(Arc::new(proxies()), true)).transpose()?;
    let since = clock::now();
    let jitter = RandomState::new().hash_one(since) % (100 - LEAST_LIFE);
    let life = settings.connection_life.mul_f64(f64::from(u32::try_from(LEAST_LIFE + jitter).unwrap_or(100)) / 100.0);
    Ok(Kept { direct, by_proxy, since, until: since + life })
}

/// The proxies that the environment names, read as the HTTP client reads them.
fn environment() -> Option<Matcher> {
    let proxies = Matcher::from_system();
    let any = ["http://onceward.invalid/", "https://onceward.invalid/"].map(http::Uri::from_static);
    any.iter().any(|uri| proxies.intercept(uri).is_some()).then_some(proxies)
}
