//! Every notation of an address, by the table.

use super::*;

/// Verdicts, and hosts that have them.
const NOTATIONS: [(&str, &[&str]); 18] = [
    (
        "loopback",
        &[
            "127.0.0.1",
            "127.255.255.254",
            "2130706433",
            "0x7f000001",
            "0x7F.1",
            "0177.0.0.1",
            "017700000001",
            "127.1",
            "127.0.1",
            "127.0.0.1.",
            "0x7f.0x0.0x0.0x1",
            "%31%32%37.0.0.1",
            "１２７.0.0.1",
            "127。0。0。1",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[::ffff:0:127.0.0.1]",
            "[64:ff9b::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::127.0.0.1]",
            "[2002:7f00:1::1]",
            "[2001:0:7f00:1:0:0:f7f7:f7f7]",
            "[2001:0:808:808::80ff:fffe]",
            "[2600::5efe:127.0.0.1]",
            "[2600::200:5efe:7f00:1]",
        ],
    ),
    ("unspecified", &["0.0.0.0", "0", "0.1.2.3", "0x0", "[::]", "[::ffff:0.0.0.0]", "[64:ff9b::]"]),
    (
        "private",
        &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "0xa.1", "[::ffff:10.0.0.1]", "[2002:a00:1::]"],
    ),
    ("link_local", &["169.254.0.1", "[fe80::1]", "[febf::1]", "[fe80::5efe:8.8.8.8]"]),
    ("shared", &["100.64.0.1", "100.127.255.255", "[64:ff9b::100.64.0.1]"]),
    ("multicast", &["224.0.0.1", "239.255.255.255", "[ff02::1]"]),
    ("documentation", &["192.0.2.1", "198.51.100.1", "203.0.113.7", "[2001:db8::1]", "[3fff::1]"]),
    ("benchmark", &["198.18.0.1", "198.19.255.255", "[2001:2::1]"]),
    (
        "metadata",
        &[
            "169.254.169.254",
            "2852039166",
            "0xa9fea9fe",
            "0251.0376.0251.0376",
            "169.254.43518",
            "169.254.170.2",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "[fd00:ec2::254]",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
            "[2002:a9fe:a9fe::]",
        ],
    ),
    ("unique_local", &["[fc00::1]", "[fd12:3456::1]"]),
    ("site_local", &["[fec0::1]"]),
    ("broadcast", &["255.255.255.255", "4294967295"]),
    ("reserved", &["240.0.0.1", "254.1.1.1", "[4000::1]", "[64:ff9b:2::1]", "[::1:0:0:0]"]),
    ("protocol_assignment", &["192.0.0.1", "192.88.99.1", "[2001:10::1]", "[5f00::1]"]),
    ("discard", &["[100::1]", "[100:0:0:1::1]"]),
    ("own_address", &["[2600::53]:5432", "broker.example:5672", "BROKER.example.:5672"]),
    ("denied_host", &["evil.example", "EVIL.example.", "a.corp.example", "a.b.corp.example", "9.9.9.9"]),
    (
        "allowed",
        &[
            "8.8.8.8",
            "134744072",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "198.20.0.1",
            "[2600::1]",
            "[::ffff:8.8.8.8]",
            "[64:ff9b::8.8.8.8]",
            "[64:ff9b:1::8.8.8.8]",
            "[64:ff9b:1:808:8:800::]",
            "[2002:808:808::1]",
            "[2001:0:808:808::f7f7:f7f7]",
            "[2600::53]",
            "example.com",
            "localhost",
            "corp.example",
            "notevil.example",
            "broker.example",
            "notcorp.example",
            "evil.example.com",
        ],
    ),
];

fn guard(allowed: &[&str]) -> Guard {
    Guard { allowed_nets: allowed.iter().map(|net| net.parse().unwrap()).collect(), ..Guard::default() }
}

fn verdict(guard: &Guard, host: &str) -> &'static str {
    let url = Url::parse(&format!("http://{host}/hook")).unwrap_or_else(|error| panic!("{host}: {error}"));
    guard.judge_url(&url).map_or_else(|forbidden| forbidden.verdict.code(), |()| "allowed")
}

#[test]
fn every_notation_of_an_address_has_its_verdict() {
    let own = |own, host: &str, port| OwnServer { own, host: host.into(), port };
    let guard = Guard {
        denied_hosts: "evil.example,*.corp.example,9.9.9.9".parse().unwrap(),
        own: vec![own(Own::Database, "2600::53", 5_432), own(Own::Broker, "broker.example", 5_672)],
        ..Guard::default()
    };
    for (expected, hosts) in NOTATIONS {
        for host in hosts {
            assert_eq!(verdict(&guard, host), expected, "{host}");
        }
    }
}

#[test]
fn a_zone_is_no_part_of_a_url() {
    for host in ["[fe80::1%25eth0]", "[fe80::1%eth0]", "[::1%25lo]"] {
        assert!(Url::parse(&format!("http://{host}/")).is_err(), "{host}");
    }
}

#[test]
fn what_is_allowed_is_allowed_in_every_form_and_nothing_else() {
    let table: [(&[&str], &str, &str); 19] = [
        (&["127.0.0.0/8"], "127.0.0.1", "allowed"),
        (&["127.0.0.0/8"], "0x7f.1", "allowed"),
        (&["127.0.0.0/8"], "[::ffff:127.0.0.1]", "allowed"),
        (&["127.0.0.0/8"], "[64:ff9b::127.0.0.1]", "allowed"),
        (&["127.0.0.0/8"], "[::1]", "loopback"),
        (&["::1/128"], "127.0.0.1", "loopback"),
        (&["10.1.0.0/16"], "10.2.0.1", "private"),
        // A mapping is its address, and no network of its own.
        (&["::/0"], "[::ffff:127.0.0.1]", "loopback"),
        (&["::/0"], "[::1]", "allowed"),
        // A tunnel may be allowed as a whole.
        (&["64:ff9b::/96"], "[64:ff9b::10.0.0.1]", "allowed"),
        (&["2002::/16"], "[2002:a00:1::1]", "allowed"),
        (&["64:ff9b::/96"], "[64:ff9b::169.254.169.254]", "metadata"),
        // Metadata is named by itself or not at all.
        (&["169.254.0.0/16"], "169.254.1.1", "allowed"),
        (&["169.254.0.0/16"], "169.254.169.254", "metadata"),
        (&["0.0.0.0/0"], "169.254.169.254", "metadata"),
        (&["169.254.169.254/32"], "169.254.169.254", "allowed"),
        (&["169.254.169.254/32"], "[::ffff:169.254.169.254]", "allowed"),
        (&["fc00::/7"], "[fd00:ec2::254]", "metadata"),
        (&["fc00::/7"], "[fd00::254]", "allowed"),
    ];
    for (allowed, host, expected) in table {
        assert_eq!(verdict(&guard(allowed), host), expected, "{host} with {allowed:?}");
    }
}

#[test]
fn our_own_servers_are_refused_whatever_is_allowed() {
    let own = vec![
        OwnServer { own: Own::AdminPort, host: "0.0.0.0".into(), port: 9_464 },
        OwnServer { own: Own::Broker, host: "10.0.0.5".into(), port: 5_672 },
    ];
    let guard = Guard { own, ..guard(&["0.0.0.0/0", "::/0"]) };
    let table = [
        ("127.0.0.1:9464", "own_address"),
        ("127.9.9.9:9464", "own_address"),
        ("[::1]:9464", "own_address"),
        ("[::ffff:127.0.0.1]:9464", "own_address"),
        ("127.0.0.1:9465", "allowed"),
        ("10.0.0.5:5672", "own_address"),
        ("[::ffff:10.0.0.5]:5672", "own_address"),
        ("[64:ff9b::10.0.0.5]:5672", "own_address"),
        ("10.0.0.6:5672", "allowed"),
        ("10.0.0.5", "allowed"),
    ];
    for (host, expected) in table {
        assert_eq!(verdict(&guard, host), expected, "{host}");
    }
}

#[test]
fn a_verdict_says_what_would_allow_it() {
    let table = [
        ("203.0.113.7", "203.0.113.7 is a documentation address; allow it with --allow-net 203.0.113.0/24"),
        (
            "::ffff:10.0.0.1",
            "::ffff:10.0.0.1 carries 10.0.0.1, which is a private address; allow it with --allow-net 10.0.0.0/8",
        ),
        (
            "169.254.169.254",
            "169.254.169.254 is a cloud's metadata address; --allow-net 169.254.169.254/32 allows it, and no wider net does",
        ),
        ("4000::1", "4000::1 is a reserved address; allow it with --allow-net 4000::1/128"),
    ];
    for (address, sentence) in table {
        let forbidden = Guard::default().judge(address.parse().unwrap()).unwrap_err();
        assert_eq!(forbidden.to_string(), sentence);
    }
    let of_name = Guard::default().judge([10, 0, 0, 1].into()).unwrap_err().of_name("intranet.example");
    let sentence = "intranet.example is 10.0.0.1, which is a private address; allow it with --allow-net 10.0.0.0/8";
    assert_eq!(of_name.to_string(), sentence);
    let own = Forbidden::own([10, 0, 0, 1].into(), Own::Broker);
    assert_eq!(own.to_string(), "10.0.0.1 is this worker's own broker; nothing allows it");
}

#[test]
fn hosts_are_named_exactly_or_by_their_domain() {
    let list: HostList = " Hooks.Example. ,*.svc.cluster.local, bücher.example,::1".parse().unwrap();
    assert_eq!(list.to_string(), "hooks.example,*.svc.cluster.local,xn--bcher-kva.example,[::1]");
    assert_eq!(list.addresses(), ["[::1]"]);
    assert!(list.names("HOOKS.example") && list.names("a.svc.cluster.local.") && list.names("[::1]"));
    assert!(!list.names("svc.cluster.local") && !list.names("a.hooks.example") && !list.names(""));
    for wrong in ["*", "*.", "a.*.example", "http://example.com", "*.10.0.0.1", "exa mple"] {
        assert!(wrong.parse::<HostList>().unwrap_err().contains("write example.com"), "{wrong}");
    }
    assert_eq!("".parse::<HostList>().unwrap(), HostList::default());
}
