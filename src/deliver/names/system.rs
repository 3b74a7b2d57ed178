//! Name servers and the hosts file, as the system names them.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::future::{Either, select};
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::op::Query;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};

use super::{AT_A_TIME, Asked, Found};

/// How long the second address family is waited for once the first has addresses.
const OTHER_FAMILY_WITHIN: Duration = Duration::from_millis(300);
/// How long what the hosts file says holds.
const HOSTS_FOR: Duration = Duration::from_secs(5);
/// How long addresses of one family alone are kept while nobody answers for the other.
const ONE_FAMILY_FOR: Duration = Duration::from_secs(30);
/// A question is asked again if there is no answer within this part of the time for a name: the packet may be lost.
const TRIES: u32 = 3;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Whom to ask. The system's files are read again when they change.
pub(super) struct Servers {
    /// None are the system's.
    given: Vec<SocketAddr>,
    within: Duration,
    built: Mutex<Option<Built>>,
}

#[derive(Clone)]
struct Built {
    resolver: TokioResolver,
    hosts: Arc<Hosts>,
    /// When the files were changed.
    as_of: [Option<SystemTime>; 2],
}

impl Servers {
    pub(super) fn new(given: &[SocketAddr], within: Duration) -> Self {
        Self { given: given.to_vec(), within, built: Mutex::default() }
    }

    /// Asks for the addresses of a name, of both families at once.
    pub(super) async fn ask(&self, name: &str) -> Asked {
        let built = match self.built() {
            Ok(built) => built,
            Err(error) => return Asked::None(error.to_string()),
        };
        let Ok(name) = Name::from_ascii(name) else { return Asked::None("it is no name of DNS".into()) };
        if let Some(addresses) = of_hosts(&built.hosts, &name) {
            return Asked::Found((addresses, HOSTS_FOR));
        }
        let ask = |kind| Box::pin(ask(&built.resolver, name.clone(), kind));
        let (first, other) = match select(ask(RecordType::AAAA), ask(RecordType::A)).await {
            Either::Left((first, other)) | Either::Right((first, other)) => (first, other),
        };
        let other = match &first {
            // Whoever has addresses need not wait for a name server that is silent about the others.
            Ok(_) => tokio::time::timeout(OTHER_FAMILY_WITHIN, other).await.ok(),
            Err(_) => Some(other.await),
        };
        together(first, other)
    }

    fn built(&self) -> Result<Built, NetError> {
        let changed = |path: &str| std::fs::metadata(path).and_then(|file| file.modified()).ok();
        let as_of = [changed(RESOLV_CONF), changed(HOSTS)];
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(built) = built.as_ref().filter(|built| built.as_of == as_of) {
            return Ok(built.clone());
        }
        let (config, options) = self.config();
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = self.options(options);
        // A hosts file that can't be read names nobody.
        let hosts = Arc::new(Hosts::from_system().unwrap_or_default());
        let new = Built { resolver: builder.build()?, hosts, as_of };
        *built = Some(new.clone());
        Ok(new)
    }

    fn config(&self) -> (ResolverConfig, ResolverOpts) {
        if !self.given.is_empty() {
            let servers = self.given.iter().map(|at| name_server(*at)).collect();
            return (ResolverConfig::from_parts(None, Vec::new(), servers), ResolverOpts::default());
        }
        system_conf::read_system_conf().unwrap_or_else(|error| {
            // As resolv.conf(5) has it where the file names none.
            tracing::warn!(%error, "{RESOLV_CONF} names no name server: 127.0.0.1 is asked");
            let server = name_server((IpAddr::from([127, 0, 0, 1]), 53).into());
            (ResolverConfig::from_parts(None, Vec::new(), vec![server]), ResolverOpts::default())
        })
    }

    fn options(&self, system: ResolverOpts) -> ResolverOpts {
        let mut options = system;
        options.timeout = options.timeout.min(self.within / TRIES);
        // The hosts file is read here, for both families at once; answers are kept here, too.
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        // Over TCP, all questions share a connection.
        options.max_active_requests = 2 * AT_A_TIME;
        options
    }
}

fn name_server(at: SocketAddr) -> NameServerConfig {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = at.port();
        connection
    });
    NameServerConfig::new(at.ip(), true, connections.into())
}

/// What the hosts file says; of a name that it knows, nobody else is asked.
fn of_hosts(hosts: &Hosts, name: &Name) -> Option<Vec<IpAddr>> {
    let of = |kind| hosts.lookup_static_host(&Query::query(name.clone(), kind));
    let found = [of(RecordType::AAAA), of(RecordType::A)].into_iter().flatten();
    let addresses: Vec<_> = found
        .flat_map(|found| found.answers().iter().filter_map(|record| address(&record.data)).collect::<Vec<_>>())
        .collect();
    (!addresses.is_empty()).then_some(addresses)
}

async fn ask(resolver: &TokioResolver, name: Name, kind: RecordType) -> Result<Found, NetError> {
    let found = resolver.lookup(name, kind).await?;
    let ttl = found.answers().iter().map(|record| record.ttl).min().unwrap_or_default();
    let addresses = found.answers().iter().filter_map(|record| address(&record.data)).collect();
    Ok((addresses, Duration::from_secs(ttl.into())))
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    }
}

/// Of two families, what there is. A family that was not waited for is asked for again soon.
fn together(first: Result<Found, NetError>, other: Option<Result<Found, NetError>>) -> Asked {
    match (first, other) {
        (Ok((mut addresses, ttl)), Some(Ok((more, other_ttl)))) => {
            addresses.extend(more);
            // Whoever connects tries the family of the first address first.
            addresses.sort_by_key(IpAddr::is_ipv4);
            Asked::Found((addresses, ttl.min(other_ttl)))
        }
        (Ok((addresses, ttl)), None) => Asked::Found((addresses, ttl.min(ONE_FAMILY_FOR))),
        (Ok(found), Some(Err(_))) | (Err(_), Some(Ok(found))) => Asked::Found(found),
        (Err(first), Some(Err(other))) => match (is_silence(&first), is_silence(&other)) {
            (true, true) => Asked::Silence,
            (true, false) => Asked::None(explain(&other)),
            (false, _) => Asked::None(explain(&first)),
        },
        (Err(error), None) => Asked::None(explain(&error)),
    }
}

fn explain(error: &NetError) -> String {
    if error.is_nx_domain() {
        "there is no such name".into()
    } else if error.is_no_records_found() {
        "the name has no addresses".into()
    } else {
        error.to_string()
    }
}

fn is_silence(error: &NetError) -> bool {
    matches!(error, NetError::Timeout)
}
