//! What the HTTP client resolves names with: each time, and for each connection, the guard is asked.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::descriptors::Descriptors;
use super::names::{Names, Unresolved};
use super::own::OwnAddresses;
use super::progress::note;
use crate::domain::guard::{Forbidden, Guard};
use crate::domain::verdict::Phase;

/// Why a name leads nowhere.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Nobody knows its addresses.
    Unresolved(Unresolved),
    /// All of its addresses are forbidden; this is the first verdict.
    Forbidden(Forbidden),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unresolved(why) => why.fmt(f),
            Self::Forbidden(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for Refused {}

/// Resolves names to addresses that may be called.
#[derive(Clone)]
pub(super) struct Guarded {
    pub(super) names: Names,
    pub(super) guard: Arc<Guard>,
    pub(super) descriptors: Arc<Descriptors>,
    /// Refuses our own servers: a resolver does not know the port, so this is for URLs that have one of theirs.
    pub(super) own: Option<OwnAddresses>,
}

impl Guarded {
    /// The addresses of a name that may be called, at least one.
    pub(super) async fn allowed(&self, name: &str) -> Result<Vec<IpAddr>, Refused> {
        let (allowed, forbidden) = self.judged(name).await?;
        match forbidden {
            Some(forbidden) if allowed.is_empty() => Err(Refused::Forbidden(forbidden)),
            _ => Ok(allowed),
        }
    }

    /// Whether all addresses of a name may be called: for whoever lets another choose among them.
    pub(super) async fn all_allowed(&self, name: &str) -> Result<(), Refused> {
        let (_, forbidden) = self.judged(name).await?;
        forbidden.map_or(Ok(()), |forbidden| Err(Refused::Forbidden(forbidden)))
    }

    async fn judged(&self, name: &str) -> Result<(Vec<IpAddr>, Option<Forbidden>), Refused> {
        let addresses = self.names.resolve(name).await.map_err(Refused::Unresolved)?;
        let (mut allowed, mut first) = (Vec::new(), None);
        for address in addresses.iter().copied() {
            match self.judge(name, address).await? {
                None => allowed.push(address),
                Some(forbidden) => first = first.or(Some(forbidden.of_name(name))),
            }
        }
        Ok((allowed, first))
    }

    async fn judge(&self, name: &str, address: IpAddr) -> Result<Option<Forbidden>, Refused> {
        if let Some(own) = &self.own {
            match own.judge(address).await {
                Ok(()) => {}
                Err(Some(forbidden)) => return Ok(Some(forbidden)),
                Err(None) => return Err(Refused::Unresolved(Unresolved::Failed(OWN_UNKNOWN.into()))),
            }
        }
        let judged = if self.guard.trusts(name) { self.guard.judge_denied(address) } else { self.guard.judge(address) };
        Ok(judged.err())
    }
}

/// Said where a destination has the port of broker or database, and nobody knows whether it is them.
pub(super) const OWN_UNKNOWN: &str =
    "its port is the broker's or the database's, and these can't be resolved at present";

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let guarded = self.clone();
        Box::pin(async move {
            note(Phase::Resolving);
            let allowed = guarded.allowed(name.as_str()).await?;
            note(Phase::Connecting);
            guarded.descriptors.open_one().await?;
            Ok(sockets(allowed))
        })
    }
}

/// Resolves the name of a proxy: an operator's own, which may be anywhere.
pub(super) struct OfProxies(pub(super) Names, pub(super) Arc<Descriptors>);

impl Resolve for OfProxies {
    fn resolve(&self, name: Name) -> Resolving {
        let (names, descriptors) = (self.0.clone(), self.1.clone());
        Box::pin(async move {
            let found = names.resolve(name.as_str()).await.map_err(Refused::Unresolved)?;
            descriptors.open_one().await?;
            Ok(sockets(found.to_vec()))
        })
    }
}

/// The client puts the URL's port in place of 0.
fn sockets(addresses: Vec<IpAddr>) -> Addrs {
    Box::new(addresses.into_iter().map(|address| SocketAddr::new(address, 0)))
}
