//! Which destinations are not reached: addresses that are not public, hosts that are denied, and our own servers.
//!
//! Whoever may publish an event names a URL that this worker calls from inside its network. Unless a setting allows it, an
//! address is refused that the whole Internet does not reach, in whatever form it is written.

mod hosts;
mod nets;

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};
use url::{Host, Url};

pub use self::hosts::HostList;
use self::nets::{Judged, carried_by};

/// What is refused, and by which name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This machine itself.
    Loopback,
    /// No address; a connection to it is one to this machine.
    Unspecified,
    /// RFC 1918.
    Private,
    /// RFC 3927 and RFC 4291 §2.5.6.
    LinkLocal,
    /// Of a provider's own network: RFC 6598.
    Shared,
    /// To many at once.
    Multicast,
    /// RFC 5737, RFC 3849 and RFC 9637.
    Documentation,
    /// RFC 2544 and RFC 5180.
    Benchmark,
    /// Where a cloud tells its machines their credentials.
    Metadata,
    /// RFC 4193.
    UniqueLocal,
    /// RFC 3879.
    SiteLocal,
    /// To all on a network.
    Broadcast,
    /// Not given out to anybody.
    Reserved,
    /// IETF protocol assignments: RFC 6890.
    Protocol,
    /// RFC 6666.
    Discard,
    /// This worker's admin port, broker or database.
    Own(Own),
    /// `--deny-host`.
    DeniedHost,
    /// `--deny-host` with an address, or a destination's `deny`.
    DeniedNet,
}

/// A server of this worker's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// Where metrics and health are served.
    AdminPort,
    /// RabbitMQ.
    Broker,
    /// PostgreSQL.
    Database,
    /// One of these.
    Server,
}

impl Verdict {
    /// A short, stable name for programs.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Unspecified => "unspecified",
            Self::Private => "private",
            Self::LinkLocal => "link_local",
            Self::Shared => "shared",
            Self::Multicast => "multicast",
            Self::Documentation => "documentation",
            Self::Benchmark => "benchmark",
            Self::Metadata => "metadata",
            Self::UniqueLocal => "unique_local",
            Self::SiteLocal => "site_local",
            Self::Broadcast => "broadcast",
            Self::Reserved => "reserved",
            Self::Protocol => "protocol_assignment",
            Self::Discard => "discard",
            Self::Own(_) => "own_address",
            Self::DeniedHost => "denied_host",
            Self::DeniedNet => "denied_net",
        }
    }

    /// What such an address is, with an article.
    fn noun(self) -> &'static str {
        match self {
            Self::Loopback => "a loopback address",
            Self::Unspecified => "an unspecified address",
            Self::Private => "a private address",
            Self::LinkLocal => "a link-local address",
            Self::Shared => "an address of a provider's own network",
            Self::Multicast => "a multicast address",
            Self::Documentation => "a documentation address",
            Self::Benchmark => "a benchmark address",
            Self::Metadata => "a cloud's metadata address",
            Self::UniqueLocal => "a unique local address",
            Self::SiteLocal => "a site-local address",
            Self::Broadcast => "the broadcast address",
            Self::Reserved => "a reserved address",
            Self::Protocol => "an address of the IETF's protocols",
            Self::Discard => "a discard address",
            Self::Own(Own::AdminPort) => "this worker's own admin port",
            Self::Own(Own::Broker) => "this worker's own broker",
            Self::Own(Own::Database) => "this worker's own database",
            Self::Own(Own::Server) => "one of this worker's own servers: broker, database or admin port",
            Self::DeniedHost => "denied (--deny-host)",
            Self::DeniedNet => "denied (--deny-host, or `deny` of its destination)",
        }
    }
}

/// A destination that is not reached, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden {
    /// The verdict.
    pub verdict: Verdict,
    /// The name that was resolved to the address.
    name: Option<String>,
    /// The address, or the host if that is denied by itself.
    host: String,
    /// The address that it carries: that of a mapping or a tunnel.
    carries: Option<IpAddr>,
    /// What would allow it.
    remedy: Option<IpNet>,
}

impl Forbidden {
    fn host(host: impl Into<String>, verdict: Verdict) -> Self {
        Self { verdict, name: None, host: host.into(), carries: None, remedy: None }
    }

    /// An address of this worker's own.
    #[must_use]
    pub fn own(address: IpAddr, own: Own) -> Self {
        Self::host(address.to_string(), Verdict::Own(own))
    }

    /// The same of a name that was resolved to the address.
    #[must_use]
    pub fn of_name(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }
}

/// What it is, and what would allow it.
impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} is {}, which", self.host)?,
            None => write!(f, "{}", self.host)?,
        }
        if let Some(carried) = self.carries {
            write!(f, " carries {carried}, which")?;
        }
        write!(f, " is {}", self.verdict.noun())?;
        match (self.verdict, self.remedy) {
            (Verdict::Own(_), _) => f.write_str("; nothing allows it"),
            (Verdict::Metadata, Some(net)) => write!(f, "; --allow-net {net} allows it, and no wider net does"),
            (_, Some(net)) => write!(f, "; allow it with --allow-net {net}"),
            (_, None) => Ok(()),
        }
    }
}

impl std::error::Error for Forbidden {}

/// A server of this worker's own, as the settings name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnServer {
    /// Which.
    pub own: Own,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl OwnServer {
    /// Its address, if it is not given by name.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.host.trim_matches(['[', ']']).parse().ok()
    }
}

/// What is allowed and denied.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Networks whose addresses are not refused.
    pub allowed_nets: Vec<IpNet>,
    /// Names whose addresses are not judged; our own are refused all the same.
    pub allowed_hosts: HostList,
    /// Hosts that are refused, whatever else is allowed.
    pub denied_hosts: HostList,
    /// Networks whose addresses are refused, whatever else is allowed.
    pub denied_nets: Vec<IpNet>,
    /// Our own servers.
    pub own: Vec<OwnServer>,
}

impl Guard {
    /// The same with more that is allowed, and denied.
    #[must_use]
    pub fn with(&self, allow: &[IpNet], deny: &[IpNet]) -> Self {
        let mut guard = self.clone();
        guard.allowed_nets.extend(allow.iter().copied().map(canonical));
        guard.denied_nets.extend(deny.iter().copied().map(canonical));
        guard
    }

    /// Judges an address. What it carries (NAT64, 6to4, …) is judged with it.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn judge(&self, address: IpAddr) -> Result<(), Forbidden> {
        self.judge_denied(address)?;
        let judged = nets::judged(address);
        let is_allowed = |address: IpAddr| self.allowed_nets.iter().any(|net| net.contains(&address));
        let exactly = |address: IpAddr| self.allowed_nets.contains(&IpNet::from(address));
        for Judged { address: judged, verdict, net, is_the_same } in judged {
            let allowed = match verdict {
                Verdict::Metadata => exactly(judged) || exactly(address),
                // Whoever allows the tunnel knows where it leads; a mapping leads nowhere else than its address.
                _ => is_allowed(judged) || (!is_the_same && is_allowed(address)),
            };
            if !allowed {
                let carries = (judged != address).then_some(judged);
                let host = address.to_string();
                return Err(Forbidden { verdict, name: None, host, carries, remedy: Some(net) });
            }
        }
        Ok(())
    }

    /// Judges an address only by the networks that are denied.
    ///
    /// # Errors
    /// That it is denied.
    pub fn judge_denied(&self, address: IpAddr) -> Result<(), Forbidden> {
        if self.denied_nets.is_empty() {
            return Ok(());
        }
        let mut forms = carried_by(address).map(|(carried, _)| carried).chain([address, address.to_canonical()]);
        match forms.find(|form| self.denied_nets.iter().any(|net| net.contains(form))) {
            Some(form) => Err(Forbidden::host(form.to_string(), Verdict::DeniedNet)),
            None => Ok(()),
        }
    }

    /// Judges what can be seen of a URL before its name is resolved.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn judge_url(&self, url: &Url) -> Result<(), Forbidden> {
        let port = url.port_or_known_default().unwrap_or_default();
        let Some(host) = url.host() else { return Ok(()) };
        if self.denied_hosts.names(url.host_str().unwrap_or_default()) {
            return Err(Forbidden::host(host.to_string(), Verdict::DeniedHost));
        }
        let address = match host {
            Host::Ipv4(address) => IpAddr::V4(address),
            Host::Ipv6(address) => IpAddr::V6(address),
            Host::Domain(name) => {
                let is_it = |server: &&OwnServer| hosts::is_same(&server.host, name);
                return match self.own_at(port).find(is_it) {
                    Some(server) => Err(Forbidden::host(name, Verdict::Own(server.own))),
                    None => Ok(()),
                };
            }
        };
        for server in self.own_at(port) {
            // What else is an address of this machine is known when it is connected to.
            let is_here = |address: IpAddr| address.is_loopback() || address.is_unspecified();
            if server.address().is_some_and(|own| is_own(own, address, is_here)) {
                return Err(Forbidden::own(address, server.own));
            }
        }
        self.judge(address)
    }

    /// Whether the addresses that a name is resolved to are not judged.
    #[must_use]
    pub fn trusts(&self, name: &str) -> bool {
        self.allowed_hosts.names(name)
    }

    /// Our own servers at a port.
    pub fn own_at(&self, port: u16) -> impl Iterator<Item = &OwnServer> {
        self.own.iter().filter(move |server| server.port == port)
    }
}

/// An IPv4 network that is written as one of IPv6.
fn canonical(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    mapped.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok()).map_or(net, IpNet::V4)
}

/// Whether an address leads to a server of our own, at the same port. One of this machine listens, perhaps, at all of its
/// addresses.
pub fn is_own(own: IpAddr, address: IpAddr, is_here: impl Fn(IpAddr) -> bool) -> bool {
    let own = own.to_canonical();
    let forms = carried_by(address).map(|(carried, _)| carried).chain([address.to_canonical()]);
    let is_own_here = is_here(own);
    forms.into_iter().any(|form| form == own || (is_own_here && is_here(form)))
}

#[cfg(test)]
mod tests;
