//! Destinations: what holds for each receiver.
//!
//! An event goes to a URL, or to a destination that is called by its name; then the settings say where that leads at the
//! moment. Settings are found by what the cap counts by: the name, or the URL's `host:port`. Of several entries that fit a
//! host, the most specific one holds, and what it does not set is as in the defaults.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use ipnet::IpNet;
use url::Url;

use super::event::{Host, Target};
use super::gate::GatePolicy;
use super::signature::SigningSecrets;
use super::verdict::Policy;

/// What holds for one receiver, or for all that have no entry of their own.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The entry that it comes from: a name, a pattern of hosts, or `defaults`.
    pub entry: Arc<str>,
    /// Where requests go, if it is called by its name.
    pub url: Option<Url>,
    /// The most requests at a time, over all workers; none where the cap on hosts holds.
    pub connections: Option<u16>,
    /// The most requests a second, over all workers.
    pub rate: Option<f64>,
    /// For one attempt in all.
    pub timeout: Duration,
    /// How outcomes are judged.
    pub policy: Policy,
    /// It gets as many requests at a time as it is found to bear, within its limit.
    pub adaptive: bool,
    /// What shuts its gate.
    pub gate: GatePolicy,
    /// What requests look like.
    pub request: RequestSettings,
    /// What connections are like.
    pub transport: Arc<Transport>,
}

/// What requests look like.
#[derive(Clone, Debug)]
pub struct RequestSettings {
    /// POST, PUT or PATCH.
    pub method: Method,
    /// Set on each request, in front of what a message sets by the same name. Values that are secret are marked so.
    pub headers: HeaderMap,
    /// What requests are signed with.
    pub secrets: SigningSecrets,
    /// Where a bearer token comes from (RFC 6749 §4.4).
    pub oauth2: Option<Arc<OAuth2>>,
    /// How a `CloudEvent` is written.
    pub cloudevents: ContentMode,
}

/// How a `CloudEvent` is written in HTTP (HTTP binding of `CloudEvents` 1.0, §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ContentMode {
    /// Its attributes are headers, its data is the body.
    #[default]
    Binary,
    /// The body is all of it, in JSON.
    Structured,
}

impl Default for RequestSettings {
    fn default() -> Self {
        Self {
            method: Method::POST,
            headers: HeaderMap::new(),
            secrets: SigningSecrets::default(),
            oauth2: None,
            cloudevents: ContentMode::Binary,
        }
    }
}

/// Client credentials for a bearer token (RFC 6749 §4.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OAuth2 {
    /// Where tokens are given out.
    pub token_url: Url,
    /// The client.
    pub client_id: String,
    /// Where that is, if it does not stand in the settings themselves: then it is not shown.
    pub client_id_from: Option<String>,
    /// Its secret.
    pub client_secret: Hidden<String>,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// For whom, where the server wants to know.
    pub audience: Option<String>,
}

/// What connections are like: receivers that have this in common share a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Transport {
    /// Certificate and key of the client, in PEM.
    pub client_certificate: Option<Hidden<Arc<[u8]>>>,
    /// Certificates to trust instead of the system's, in PEM.
    pub ca: Option<Arc<[u8]>>,
    /// A proxy, instead of what the environment says.
    pub proxy: Option<Hidden<Url>>,
    /// Versions of HTTP.
    pub version: HttpVersion,
    /// Addresses that may be reached though they are not public.
    pub allow: Vec<IpNet>,
    /// Addresses that may not be reached.
    pub deny: Vec<IpNet>,
}

/// Versions of HTTP that are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/2 where TLS finds that the receiver speaks it, HTTP/1.1 elsewhere.
    #[default]
    Auto,
    /// HTTP/1.1.
    One,
    /// HTTP/2, without asking.
    Two,
}

/// A value that is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Hidden<T>(pub T);

impl<T> fmt::Debug for Hidden<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Destination {
    /// What holds without any entry: POST, no headers, no signature, the system's certificates.
    #[must_use]
    pub fn defaults(policy: Policy, timeout: Duration) -> Self {
        Self {
            entry: "defaults".into(),
            url: None,
            connections: None,
            rate: None,
            timeout,
            policy,
            adaptive: false,
            gate: GatePolicy::default(),
            request: RequestSettings::default(),
            transport: Arc::default(),
        }
    }
}

/// All destinations.
#[derive(Clone, Debug)]
pub struct Destinations {
    defaults: Arc<Destination>,
    /// By name.
    names: HashMap<Box<str>, Arc<Destination>>,
    /// By `host:port`, `host`, `*.domain:port` and `*.domain`.
    patterns: HashMap<Box<str>, Arc<Destination>>,
    /// Of what was read, in hexadecimal: workers that have read the same have the same. Empty without a file.
    pub digest: String,
}

impl Destinations {
    /// No entries but the defaults.
    #[must_use]
    pub fn new(defaults: Destination) -> Self {
        let (names, patterns) = (HashMap::new(), HashMap::new());
        Self { defaults: Arc::new(defaults), names, patterns, digest: String::new() }
    }

    /// One more entry, by its name.
    pub fn add_name(&mut self, name: &str, destination: Destination) {
        self.names.insert(name.into(), Arc::new(destination));
    }

    /// One more entry, by its pattern: `host`, `host:port`, `*.domain` or `*.domain:port`, in lower case.
    pub fn add_pattern(&mut self, pattern: &str, destination: Destination) {
        self.patterns.insert(pattern.into(), Arc::new(destination));
    }

    /// What holds without an entry.
    #[must_use]
    pub fn defaults(&self) -> &Arc<Destination> {
        &self.defaults
    }

    /// Everything, the defaults first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Destination>> {
        std::iter::once(&self.defaults).chain(self.names.values()).chain(self.patterns.values())
    }

    /// The destination of this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Arc<Destination>> {
        self.names.get(name)
    }

    /// What holds for a host, or for the destination of that name: the most specific entry.
    #[must_use]
    pub fn of(&self, host: &Host) -> &Arc<Destination> {
        let found = match host.as_str().rsplit_once(':') {
            None => self.named(host.as_str()),
            Some(_) if self.patterns.is_empty() => None,
            Some((name, port)) => self.by_pattern(host.as_str(), name, port),
        };
        found.unwrap_or(&self.defaults)
    }

    /// A whole host goes before a part of it, a longer part before a shorter one, and each with its port before without.
    fn by_pattern(&self, host: &str, name: &str, port: &str) -> Option<&Arc<Destination>> {
        let whole = self.patterns.get(host).or_else(|| self.patterns.get(name));
        whole.or_else(|| {
            let dots = name.match_indices('.').map(|(at, _)| &name[at..]);
            dots.filter(|domain| domain.len() > 1).find_map(|domain| {
                let with_port = self.patterns.get(&*format!("*{domain}:{port}"));
                with_port.or_else(|| self.patterns.get(&*format!("*{domain}")))
            })
        })
    }

    /// Where requests of an event go now. None if its destination is not configured any more.
    #[must_use]
    pub fn url<'a>(&'a self, target: &'a Target) -> Option<&'a Url> {
        match target {
            Target::Url(url) => Some(url),
            Target::Name(name) => self.named(name)?.url.as_ref(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
