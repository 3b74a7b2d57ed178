//! What a file means, and what is said about one that means nothing.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use http::Method;

use super::*;
use crate::domain::backoff::{Backoff, Delays};
use crate::domain::destination::HttpVersion;
use crate::domain::verdict::{Gone, Policy};

const LIMITS: Limits =
    Limits { lease: Duration::from_secs(15), drain_time: Duration::from_secs(30), max_in_flight: 2_048 };

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// As the flags of the worker are by default.
fn flags() -> Destination {
    let second = Duration::from_secs(1);
    let policy = Policy {
        max_attempts: 5,
        max_unknown: 10,
        delays: Delays::Growing(Backoff { initial: second, max: second * 60, factor: 2.0, jitter: 0.1 }),
        retry_after_max: second * 3_600,
        final_statuses: [410].into(),
        success_statuses: [].into(),
        hold: false,
        gone: Gone::Fail,
    };
    Destination::defaults(policy, second * 5)
}

/// A directory of a test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("onceward-destinations-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn with(self, name: &str, text: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.0.join(name), text).unwrap();
        self
    }

    fn sheet(&self, text: &str) -> Result<Sheet, Refused> {
        let path = self.0.join("d.toml");
        std::fs::write(&path, text).unwrap();
        read_sheet(&path, &flags(), LIMITS)
    }

    /// What is wrong with a text, without the directory.
    fn complaints(&self, text: &str) -> Vec<String> {
        std::fs::write(self.0.join("d.toml"), text).unwrap();
        self.read_what_is_there()
    }

    fn read_what_is_there(&self) -> Vec<String> {
        let read = read_sheet(&self.0.join("d.toml"), &flags(), LIMITS);
        let Err(refused) = read else { panic!("it is accepted: {read:?}") };
        let prefix = format!("{}/", self.0.display());
        refused.complaints().0.iter().map(|line| line.replacen(&prefix, "", 1)).collect()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn read(text: &str) -> Sheet {
    Directory::new().sheet(text).unwrap_or_else(|refused| panic!("{:?}\n{text}", refused.complaints()))
}

/// What holds for a URL or a name.
fn of<'a>(sheet: &'a Sheet, target: &str) -> (Heading, &'a Destination, &'a Origins) {
    sheet.of(&Target::read_back(target).unwrap()).unwrap()
}

#[test]
fn an_empty_file_leaves_everything_to_the_flags() {
    let sheet = read("");
    let (heading, destination, origins) = of(&sheet, "http://example.com/");
    assert_eq!((heading, sheet.counts), (Heading::Defaults, (0, 0)));
    assert_eq!((destination.timeout, &destination.policy), (flags().timeout, &flags().policy));
    assert!(origins.is_empty());
    // SHA-256 of eight bytes of 0, the length of nothing.
    assert_eq!(sheet.destinations.digest, "af5570f5a1810b7af78caf4bc70a660f0df51e42baf91d4de5b2328de0e83dfc");
}

#[test]
fn an_entry_inherits_what_it_does_not_set() {
    let sheet = read(
        "[defaults]\ntimeout = '4s'\nbackoff.max = '30s'\nmethod = 'PUT'\n\
         [names.billing]\nurl = 'https://billing.example.com/hooks'\nconnections = 10\nbackoff.initial = '2s'\n\
         [hosts.'*.Example.com']\nrate = 100\nmethod = 'PATCH'\nattempts = 3\n",
    );
    assert_eq!(sheet.counts, (1, 1));
    let (heading, billing, origins) = of(&sheet, "billing");
    assert_eq!(heading.to_string(), "[names.billing]");
    assert_eq!(&*billing.entry, "billing");
    assert_eq!(billing.url.as_ref().unwrap().as_str(), "https://billing.example.com/hooks");
    assert_eq!((billing.connections, billing.rate, billing.timeout), (Some(10), None, Duration::from_secs(4)));
    assert_eq!(billing.request.method, Method::PUT);
    let (initial, max) = (Duration::from_secs(2), Duration::from_secs(30));
    assert_eq!(billing.policy.delays, Delays::Growing(Backoff { initial, max, factor: 2.0, jitter: 0.1 }));
    let origin = |heading, line| Some(Origin { heading, line });
    assert_eq!(origins.get("timeout").cloned(), origin(Heading::Defaults, 2));
    assert_eq!(origins.get("connections").cloned(), origin(Heading::Name("billing".into()), 7));
    assert_eq!(origins.get("backoff.initial").cloned(), origin(Heading::Name("billing".into()), 8));
    assert_eq!(origins.get("attempts"), None);

    let (heading, host, _) = of(&sheet, "http://a.b.example.com:8080/x");
    assert_eq!(heading.to_string(), "[hosts.\"*.example.com\"]");
    assert_eq!((host.rate, host.policy.max_attempts, &host.url), (Some(100.0), 3, &None));
    assert_eq!(host.request.method, Method::PATCH);
    let (heading, other, _) = of(&sheet, "http://example.com/");
    assert_eq!((heading, other.timeout), (Heading::Defaults, Duration::from_secs(4)));
    assert!(sheet.of(&Target::Name("nobody".into())).is_none());
}

#[test]
fn delays_grow_or_are_listed() {
    let sheet = read(
        "[defaults]\nbackoff = ['1s', '1min']\n[hosts.a]\n[hosts.b]\nbackoff.jitter = 0\n[hosts.c]\nbackoff.max = '2min'\n\
         [hosts.d]\nbackoff = { delays = ['5s'], jitter = 50 }\n",
    );
    let delays = |host: &str| of(&sheet, &format!("http://{host}/")).1.policy.delays.clone();
    let list = |delays: &[u64], jitter| Delays::Listed {
        delays: delays.iter().copied().map(Duration::from_secs).collect(),
        jitter,
    };
    assert_eq!(delays("a"), list(&[1, 60], 0.1));
    assert_eq!(delays("b"), list(&[1, 60], 0.0));
    let (initial, max) = (Duration::from_secs(1), Duration::from_mins(2));
    assert_eq!(delays("c"), Delays::Growing(Backoff { initial, max, factor: 2.0, jitter: 0.1 }));
    assert_eq!(delays("d"), list(&[5], 0.5));
}

#[test]
fn statuses_are_numbers_and_ranges() {
    let sheet = read(
        "[hosts.a]\nfinal-statuses = [404, '410-412']\nsuccess-statuses = [200, '202-204', 409]\n\
         [hosts.b]\nfinal-statuses = '400, 404'\n[hosts.c]\nfinal-statuses = []\n",
    );
    let policy = |host: &str| of(&sheet, &format!("http://{host}/")).1.policy.clone();
    assert_eq!(policy("a").final_statuses, [404, 410, 411, 412].into());
    assert_eq!(policy("a").success_statuses, [200, 202, 203, 204, 409].into());
    assert_eq!(policy("b").final_statuses, [400, 404].into());
    assert_eq!(policy("c").final_statuses, [].into());
}

#[test]
fn headers_and_secrets_come_from_the_file_from_others_or_from_variables() {
    let directory = Directory::new().with("key", "hidden\n").with("secrets", format!("{SECRET}\n{SECRET}\n"));
    let text = format!(
        "[defaults]\nsecrets = ['{SECRET}', {{ file = 'secrets' }}]\n\
         [hosts.a.headers]\nX-Team = 'payments'\nx-key = {{ file = 'key' }}\nx-package = {{ variable = 'CARGO_PKG_NAME' }}\n\
         [hosts.b]\nsecrets = []\n"
    );
    let sheet = directory.sheet(&text).unwrap();
    let request = &of(&sheet, "http://a/").1.request;
    let header = |name: &str| request.headers.get(name).map(|value| (value.to_str().unwrap(), value.is_sensitive()));
    assert_eq!(header("x-team"), Some(("payments", false)));
    assert_eq!(header("x-key"), Some(("hidden", true)));
    assert_eq!(header("x-package"), Some(("onceward", true)));
    assert_eq!(format!("{:?}", request.secrets), "3 signing secrets");
    assert_eq!(format!("{:?}", of(&sheet, "http://b/").1.request.secrets), "0 signing secrets");
    let shown = format!("{sheet:?}");
    assert!(!shown.contains("hidden") && !shown.contains("MfKQ9r8"), "{shown}");
}

/// A certificate that is signed by itself, and its key.
fn certificate() -> (String, String) {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

#[test]
fn connections_are_as_the_file_says() {
    let (pem, key) = certificate();
    let directory = Directory::new().with("c.pem", &pem).with("k.pem", &key).with("both.pem", format!("{key}{pem}"));
    let text = "[hosts.a]\nclient-certificate = { certificate = 'c.pem', key = 'k.pem' }\nca = 'c.pem'\n\
                proxy = 'http://u:hidden@proxy:3128'\nhttp = 2\nallow = ['10.0.0.0/8', '::1']\ndeny = '192.0.2.0/24'\n\
                [hosts.b]\nclient-certificate = 'both.pem'\nhttp = '1'\n[hosts.c]\n";
    let sheet = directory.sheet(text).unwrap();
    let transport = |host: &str| of(&sheet, &format!("http://{host}/")).1.transport.clone();
    let a = transport("a");
    assert_eq!(a.client_certificate.as_ref().unwrap().0.as_ref(), format!("{pem}\n{key}").as_bytes());
    assert_eq!(a.ca.as_deref(), Some(pem.as_bytes()));
    assert_eq!(a.proxy.as_ref().unwrap().0.as_str(), "http://u:hidden@proxy:3128/");
    assert_eq!(a.version, HttpVersion::Two);
    assert_eq!(a.allow, ["10.0.0.0/8", "::1/128"].map(|network| network.parse().unwrap()));
    assert_eq!(a.deny, ["192.0.2.0/24"].map(|network| network.parse().unwrap()));
    let b = transport("b");
    assert_eq!(b.client_certificate.as_ref().unwrap().0.as_ref(), format!("{key}{pem}").as_bytes());
    assert_eq!(b.version, HttpVersion::One);
    // Receivers with the same transport share a pool.
    assert!(std::sync::Arc::ptr_eq(&transport("c"), &sheet.destinations.defaults().transport));
    let shown: Vec<_> = settings().iter().filter_map(|setting| setting.show(of(&sheet, "http://a/").1)).collect();
    assert!(shown.contains(&"http://REDACTED:REDACTED@proxy:3128/".into()), "{shown:?}");
}

#[test]
fn what_the_defaults_say_can_be_taken_away() {
    let sheet = read(
        "[defaults]\nrate = 1\nconnections = 1\nproxy = 'http://proxy'\nheaders.x-a = 'b'\n\
         oauth2 = { token-url = 'https://t/', client-id = 'i', client-secret = 's', scopes = 'a b' }\n\
         [hosts.a]\nrate = false\nconnections = false\nproxy = false\noauth2 = false\nheaders = false\n[hosts.b]\n",
    );
    let (_, a, origins) = of(&sheet, "http://a/");
    assert!(a.rate.is_none() && a.connections.is_none() && a.transport.proxy.is_none() && a.request.oauth2.is_none());
    assert!(a.request.headers.is_empty());
    assert_eq!(origins["rate"].heading, Heading::Host("a".into()));
    let oauth2 = of(&sheet, "http://b/").1.request.oauth2.clone().unwrap();
    assert_eq!((oauth2.scopes.as_slice(), oauth2.client_secret.0.as_str()), (["a".into(), "b".into()].as_slice(), "s"));
}

#[test]
fn the_digest_follows_what_was_read() {
    let directory = Directory::new().with("key", "one");
    let text = "[defaults]\nheaders.x-key = { file = 'key' }\n";
    let digest = |text: &str| directory.sheet(text).unwrap().destinations.digest;
    let first = digest(text);
    assert_eq!((first.len(), digest(text)), (64, first.clone()));
    assert_ne!(digest(&format!("{text}# more\n")), first);
    std::fs::write(directory.0.join("key"), "two").unwrap();
    assert_ne!(digest(text), first);
}

mod refused;
