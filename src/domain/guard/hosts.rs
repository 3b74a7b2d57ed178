//! Hosts by name: exact ones, or all below a domain.

use std::fmt;
use std::str::FromStr;

use url::Host;

/// Names of hosts, such as `example.com` and `*.example.com`, with commas between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostList(Vec<Pattern>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    /// With the dot.
    Below(String),
}

impl HostList {
    /// Whether a host, as a URL has it, is one of them.
    #[must_use]
    pub fn names(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.0.iter().any(|pattern| match pattern {
            Pattern::Exact(name) => name.eq_ignore_ascii_case(host),
            // Bytes: a host from elsewhere may be anything.
            Pattern::Below(domain) => {
                let (host, domain) = (host.as_bytes(), domain.as_bytes());
                host.len() > domain.len() && host[host.len() - domain.len()..].eq_ignore_ascii_case(domain)
            }
        })
    }

    /// Those that are no names but addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<&str> {
        let exact = self.0.iter().filter_map(|pattern| match pattern {
            Pattern::Exact(name) => Some(name.as_str()),
            Pattern::Below(_) => None,
        });
        exact.filter(|name| !matches!(Host::parse(name), Ok(Host::Domain(_)))).collect()
    }
}

impl FromStr for HostList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        Ok(Self(parts.map(pattern).collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for HostList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.iter().map(|pattern| match pattern {
            Pattern::Exact(name) => name.clone(),
            Pattern::Below(domain) => format!("*{domain}"),
        });
        f.write_str(&shown.collect::<Vec<_>>().join(","))
    }
}

fn pattern(part: &str) -> Result<Pattern, String> {
    let wrong = || format!("{part:?} is no host: write example.com, or *.example.com for all below it");
    let (is_below, name) = part.strip_prefix("*.").map_or((false, part), |name| (true, name));
    let name = name.strip_suffix('.').unwrap_or(name);
    let bracketed = format!("[{name}]");
    let name = if name.parse::<std::net::Ipv6Addr>().is_ok() { &bracketed } else { name };
    let host = Host::parse(name).map_err(|_| wrong())?;
    match (host, is_below) {
        (Host::Domain(name), _) if name.contains('*') || name.is_empty() => Err(wrong()),
        (Host::Domain(name), true) => Ok(Pattern::Below(format!(".{name}"))),
        (_, true) => Err(wrong()),
        (host, false) => Ok(Pattern::Exact(host.to_string())),
    }
}

/// Whether two hosts are one, as they are written.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    let plain = |host: &str| host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    plain(one) == plain(other)
}
