//! Which destinations are called, and how they are found.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use ipnet::IpNet;
use sqlx::postgres::PgConnectOptions;
use url::Url;

use super::{WorkerArgs, duration};
use crate::domain::guard::{Guard, HostList, Own, OwnServer};

/// Which destinations are called beyond those of the public Internet, and how names are resolved.
#[derive(Clone, Debug, Args)]
pub struct GuardArgs {
    /// Networks that are not public and may be called all the same, such as 10.0.0.0/8,192.168.7.9 [default: none]
    #[arg(long, env = "ONCEWARD_ALLOW_NET", default_value = "", hide_default_value = true, value_name = "LIST")]
    pub allow_net: NetList,
    /// Hosts that may be called whatever their addresses are, such as hooks.internal,*.svc.cluster.local [default: none]
    #[arg(long, env = "ONCEWARD_ALLOW_HOST", default_value = "", hide_default_value = true, value_name = "LIST")]
    pub allow_host: HostList,
    /// Hosts that are never called, such as *.corp.example,203.0.113.9 [default: none]
    #[arg(long, env = "ONCEWARD_DENY_HOST", default_value = "", hide_default_value = true, value_name = "LIST")]
    pub deny_host: HostList,
    /// Name servers that resolve destinations, ADDRESS or ADDRESS:PORT [default: those of /etc/resolv.conf]
    #[arg(long, env = "ONCEWARD_NAME_SERVERS", default_value = "", hide_default_value = true, value_name = "LIST")]
    pub name_servers: NameServers,
    /// How long a connection to a receiver is used at most, so that a name that moves is followed
    #[arg(long, env = "ONCEWARD_CONNECTION_LIFE", default_value = "5min", value_parser = duration, value_name = "TIME")]
    pub connection_life: Duration,
}

impl GuardArgs {
    /// # Errors
    /// One line: what is wrong and what to write instead.
    pub(super) fn validate(&self, default_destination: Option<&Url>) -> Result<(), String> {
        if let Some(address) = self.allow_host.addresses().first() {
            return Err(format!("--allow-host names the address {address}: give it to --allow-net"));
        }
        if self.connection_life < Duration::from_secs(1) {
            let life = humantime::format_duration(self.connection_life);
            return Err(format!("--connection-life is {life}: use 1s or more"));
        }
        match default_destination.map(|url| self.guard(Vec::new()).judge_url(url)) {
            Some(Err(forbidden)) => Err(format!("--default-destination is forbidden: {forbidden}")),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// The guard, that also keeps from our own servers.
    #[must_use]
    pub fn guard(&self, own: Vec<OwnServer>) -> Guard {
        Guard {
            allowed_nets: self.allow_net.0.clone(),
            allowed_hosts: self.allow_host.clone(),
            denied_hosts: self.deny_host.clone(),
            // An address is denied in every form, and whichever name leads to it.
            denied_nets: self.deny_host.addresses().iter().filter_map(|text| network(text)).collect(),
            own,
        }
    }
}

/// The network of an address as a URL has it.
fn network(text: &str) -> Option<IpNet> {
    text.trim_matches(['[', ']']).parse::<IpAddr>().ok().map(|address| IpNet::from(address.to_canonical()))
}

impl WorkerArgs {
    /// Where this worker's own servers are. `admin` is where the admin port was opened.
    #[must_use]
    pub fn own_servers(&self, admin: Option<SocketAddr>) -> Vec<OwnServer> {
        let admin = admin.map(|at| OwnServer { own: Own::AdminPort, host: at.ip().to_string(), port: at.port() });
        let brokers = self.broker.amqp_url.all().iter().filter_map(|url| {
            let url = Url::parse(url.reveal()).ok()?;
            let port = url.port().unwrap_or(if url.scheme() == "amqps" { 5_671 } else { 5_672 });
            Some(OwnServer { own: Own::Broker, host: url.host_str()?.to_owned(), port })
        });
        let database = PgConnectOptions::from_str(self.database.database_url.reveal()).ok();
        // A path is a socket, which no URL reaches.
        let database = database.filter(|options| !options.get_host().starts_with('/')).map(|options| OwnServer {
            own: Own::Database,
            host: options.get_host().to_owned(),
            port: options.get_port(),
        });
        admin.into_iter().chain(brokers).chain(database).collect()
    }
}

/// Networks, with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetList(pub Vec<IpNet>);

impl FromStr for NetList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(parts(text).map(net).collect::<Result<_, _>>()?))
    }
}

impl fmt::Display for NetList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
    }
}

fn net(part: &str) -> Result<IpNet, String> {
    if let Ok(address) = part.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let net: IpNet =
        part.parse().map_err(|_| format!("{part:?} is no network: write 10.0.0.0/8, fd12:3456::/32 or 10.1.2.3"))?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(format!("{part:?} has more than its network: write {} or {}", net.trunc(), net.addr()))
    }
}

/// Name servers, with commas between them; none are the system's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameServers(pub Vec<SocketAddr>);

/// The port of DNS.
const DNS_PORT: u16 = 53;

impl FromStr for NameServers {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let server = |part: &str| {
            let with_port = part.parse::<SocketAddr>().ok();
            let without = || part.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, DNS_PORT));
            with_port.or_else(without).ok_or_else(|| {
                format!("{part:?} is no name server's address: write 10.0.0.53, 10.0.0.53:5353 or [fd00::53]:53")
            })
        };
        Ok(Self(parts(text).map(server).collect::<Result<_, _>>()?))
    }
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}
