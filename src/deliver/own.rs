//! The addresses of this worker's own servers, at whose ports nothing is delivered.

use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::clock;
use crate::domain::guard::{Forbidden, Guard, Own, is_own};

/// How long the addresses of our own servers' names are kept.
const KEPT: Duration = Duration::from_secs(30);
/// How long they are waited for.
const RESOLVED_WITHIN: Duration = Duration::from_secs(2);

type Known = (Duration, Arc<[IpAddr]>);

/// Looks after the addresses of our own servers. They are asked for only if a destination has one of their ports.
#[derive(Clone)]
pub(super) struct OwnAddresses {
    guard: Arc<Guard>,
    known: Arc<Mutex<Option<Known>>>,
}

impl OwnAddresses {
    pub(super) fn new(guard: Arc<Guard>) -> Self {
        Self { guard, known: Arc::default() }
    }

    /// Refuses an address of our own servers, whatever the port.
    ///
    /// # Errors
    /// Whose it is; none if that can't be found out at present.
    pub(super) async fn judge(&self, address: IpAddr) -> Result<(), Option<Forbidden>> {
        let own = self.addresses().await.ok_or(None)?;
        match own.iter().find(|own| is_own(**own, address, is_here)) {
            // The port is not known here.
            Some(_) => Err(Some(Forbidden::own(address, Own::Server))),
            None => Ok(()),
        }
    }

    /// By the system's resolver, as the clients of broker and database ask it.
    async fn addresses(&self) -> Option<Arc<[IpAddr]>> {
        let mut known = self.known.lock().await;
        if let Some((_, addresses)) = known.as_ref().filter(|(until, _)| *until > clock::now()) {
            return Some(addresses.clone());
        }
        let mut addresses = Vec::new();
        for server in &self.guard.own {
            if let Some(address) = server.address() {
                addresses.push(address);
                continue;
            }
            let asked = tokio::net::lookup_host((server.host.as_str(), server.port));
            let Ok(Ok(found)) = tokio::time::timeout(RESOLVED_WITHIN, asked).await else {
                // What was known last is better than nothing.
                return known.as_ref().map(|(_, addresses)| addresses.clone());
            };
            addresses.extend(found.map(|at| at.ip()));
        }
        let addresses: Arc<[_]> = addresses.into();
        *known = Some((clock::now() + KEPT, addresses.clone()));
        Some(addresses)
    }
}

/// Whether an address is one of this machine's: then a socket can be bound to it.
fn is_here(address: IpAddr) -> bool {
    match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        // What can't be found out is refused.
        Err(error) => error.kind() != ErrorKind::AddrNotAvailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_knows_its_own_addresses() {
        assert!(is_here([127, 0, 0, 1].into()) && is_here([127, 1, 2, 3].into()) && is_here([0, 0, 0, 0].into()));
        assert!(!is_here([8, 8, 8, 8].into()));
    }
}
