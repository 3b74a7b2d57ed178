//! The special-purpose networks (IANA's registries for IPv4 and IPv6), and addresses that carry another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Verdict;

/// IPv4 networks that are not reached; the first that holds an address counts.
pub(super) const V4: [(Ipv4Net, Verdict); 16] = [
    (v4([0, 0, 0, 0], 8), Verdict::Unspecified),
    (v4([127, 0, 0, 0], 8), Verdict::Loopback),
    (v4([10, 0, 0, 0], 8), Verdict::Private),
    (v4([172, 16, 0, 0], 12), Verdict::Private),
    (v4([192, 168, 0, 0], 16), Verdict::Private),
    (v4([169, 254, 0, 0], 16), Verdict::LinkLocal),
    (v4([100, 64, 0, 0], 10), Verdict::Shared),
    (v4([192, 0, 0, 0], 24), Verdict::Protocol),
    (v4([192, 88, 99, 0], 24), Verdict::Protocol),
    (v4([192, 0, 2, 0], 24), Verdict::Documentation),
    (v4([198, 51, 100, 0], 24), Verdict::Documentation),
    (v4([203, 0, 113, 0], 24), Verdict::Documentation),
    (v4([198, 18, 0, 0], 15), Verdict::Benchmark),
    (v4([224, 0, 0, 0], 4), Verdict::Multicast),
    (v4([255, 255, 255, 255], 32), Verdict::Broadcast),
    (v4([240, 0, 0, 0], 4), Verdict::Reserved),
];

/// IPv6 networks that are not reached; the first that holds an address counts.
pub(super) const V6: [(Ipv6Net, Verdict); 13] = [
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), Verdict::Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), Verdict::Loopback),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Verdict::LinkLocal),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), Verdict::SiteLocal),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), Verdict::UniqueLocal),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Verdict::Multicast),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), Verdict::Documentation),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), Verdict::Documentation),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), Verdict::Benchmark),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), Verdict::Protocol),
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), Verdict::Protocol),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), Verdict::Discard),
    (v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64), Verdict::Discard),
];

/// What is given out to anybody at all; the rest is kept for later.
const GLOBAL: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// Where clouds tell their machines who they are, credentials included. Some lie in networks that are allowed for other
/// reasons, and one is public.
pub(super) const METADATA: [IpAddr; 12] = [
    // AWS, Google, Azure, OpenStack, DigitalOcean and most others.
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    // AWS: tasks of ECS, pods of EKS.
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    // Scaleway.
    IpAddr::V4(Ipv4Addr::new(169, 254, 42, 42)),
    // Alibaba.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Oracle's older one.
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // Azure's agent.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // AWS, EKS, Google, Oracle, Scaleway.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
];

const fn v4(octets: [u8; 4], prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from_octets(octets), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from_segments(segments), prefix)
}

/// An address that is not reached unless a network is allowed.
pub(super) struct Judged {
    /// The address itself, or the one that it carries.
    pub(super) address: IpAddr,
    /// Why.
    pub(super) verdict: Verdict,
    /// What would allow it.
    pub(super) net: IpNet,
    /// The two are one and the same to the system.
    pub(super) is_the_same: bool,
}

/// All that speaks against an address.
pub(super) fn judged(address: IpAddr) -> Vec<Judged> {
    let mut found = Vec::new();
    let mut is_only_a_form = false;
    for (carried, is_the_same) in carried_by(address) {
        is_only_a_form = true;
        found.extend(of(carried).map(|(verdict, net)| Judged { address: carried, verdict, net, is_the_same }));
    }
    if !is_only_a_form || is_isatap(address) {
        let itself = of(address).map(|(verdict, net)| Judged { address, verdict, net, is_the_same: true });
        found.extend(itself);
    }
    found
}

fn of(address: IpAddr) -> Option<(Verdict, IpNet)> {
    if METADATA.contains(&address) {
        return Some((Verdict::Metadata, address.into()));
    }
    match address {
        IpAddr::V4(address) => {
            let (net, verdict) = V4.iter().find(|(net, _)| net.contains(&address))?;
            Some((*verdict, (*net).into()))
        }
        IpAddr::V6(address) => match V6.iter().find(|(net, _)| net.contains(&address)) {
            Some((net, verdict)) => Some((*verdict, (*net).into())),
            None if GLOBAL.contains(&address) => None,
            None => Some((Verdict::Reserved, IpNet::from(IpAddr::V6(address)))),
        },
    }
}

fn is_isatap(address: IpAddr) -> bool {
    let IpAddr::V6(address) = address else { return false };
    let words = address.segments();
    words[5] == 0x5efe && matches!(words[4], 0 | 0x200) && GLOBAL.contains(&address)
}

/// The IPv4 addresses that an IPv6 address leads to, and whether it is only another form of them.
pub(super) fn carried_by(address: IpAddr) -> Carried {
    let IpAddr::V6(address) = address else { return Vec::new().into_iter() };
    let words = address.segments();
    let at = |first: u16, second: u16| {
        let ([a, b], [c, d]) = (first.to_be_bytes(), second.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    let last = at(words[6], words[7]);
    let found = match words {
        // Unspecified and loopback.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => vec![],
        // IPv4-compatible, IPv4-mapped (RFC 4291 §2.5.5), IPv4-translated (RFC 2765).
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => vec![(last, true)],
        // NAT64: RFC 6052.
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => vec![(last, false)],
        // NAT64 with a prefix of the network's own, of whatever length: RFC 8215.
        [0x64, 0xff9b, 1, ..] => of_any_prefix(address.octets()).into_iter().map(|carried| (carried, false)).collect(),
        // 6to4: RFC 3056.
        [0x2002, first, second, ..] => vec![(at(first, second), false)],
        // Teredo: the server, and the client behind its NAT (RFC 4380).
        [0x2001, 0, first, second, _, _, c, d] => vec![(at(!c, !d), false), (at(first, second), false)],
        _ if is_isatap(IpAddr::V6(address)) => vec![(last, false)],
        _ => vec![],
    };
    found.into_iter()
}

/// What [`carried_by`] gives.
pub(super) type Carried = std::vec::IntoIter<(IpAddr, bool)>;

/// Where RFC 6052 §2.2 puts the address for each length of a prefix from 48 on. Which one a gateway has is not known here: what
/// is an address by one of them, and not nothing, is judged.
fn of_any_prefix(bytes: [u8; 16]) -> Vec<IpAddr> {
    let places = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]];
    let mut found: Vec<[u8; 4]> = places.iter().map(|place| place.map(|at| bytes[at])).collect();
    if bytes[6..12].iter().all(|byte| *byte == 0) {
        found.drain(..3);
    } else {
        found.retain(|address| *address != [0; 4]);
    }
    found.into_iter().map(|address| IpAddr::V4(address.into())).collect()
}
