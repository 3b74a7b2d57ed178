//! Every setting of an entry: how it is read, which flag holds without it, and how it is shown. There is no other list of them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use ipnet::IpNet;
use url::Url;

use super::complaint::Complaint;
use super::context::Context;
use super::value::{Item, shown};
use super::{pem, request};
use crate::config::gate;
use crate::domain::backoff::{Backoff, Delays, TICK};
use crate::domain::destination::{ContentMode, Destination, Hidden, HttpVersion, Transport};
use crate::domain::redact;
use crate::domain::signature::SigningSecrets;
use crate::domain::verdict::Gone;

/// The shortest time for an attempt, as with `--attempt-timeout`.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(10);
/// The longest delay between attempts, as with `--backoff-max`.
const LONGEST_DELAY: Duration = Duration::from_hours(24);
/// The most delays of a list.
const MOST_DELAYS: usize = 100;
/// Requests a second: from one in about three hours to more than any host takes.
const RATES: (f64, f64) = (0.0001, 100_000.0);

/// One setting.
pub struct Setting {
    /// As it is written; those behind a dot stand in a table.
    pub key: &'static str,
    /// The flag of `onceward worker` that holds where the file says nothing.
    pub flag: Option<&'static str>,
    pub(super) read: fn(&mut Destination, Item<'_>, &mut Context) -> Result<(), Complaint>,
    /// How `false` takes away what the defaults say.
    pub(super) clear: Option<fn(&mut Destination)>,
    show: fn(&Destination) -> Option<String>,
}

impl Setting {
    /// Its value, as people may see it. None where it has no meaning, because others hold instead.
    #[must_use]
    pub fn show(&self, destination: &Destination) -> Option<String> {
        (self.show)(destination)
    }
}

/// All settings, in the order in which they are shown.
#[must_use]
pub fn settings() -> &'static [Setting] {
    &SETTINGS
}

/// What is shown of a value that is not set.
const NONE: &str = "none";

const SETTINGS: [Setting; 30] = [
    Setting {
        key: "url",
        flag: None,
        read: |to, item, _| {
            to.url = Some(request::url(item)?);
            Ok(())
        },
        clear: None,
        show: |of| of.url.as_ref().map(redact::url),
    },
    Setting {
        key: "connections",
        flag: Some("--host-connections"),
        read: |to, item, context| {
            let most = (context.limits.max_in_flight / 10).clamp(1, 2_000);
            let connections = item.integer(1, 2_000)?;
            if connections > most {
                let in_all = context.limits.max_in_flight;
                let what = "one host gets a tenth of --max-in-flight at most";
                return Err(item.wrong(format!("{connections} is too much: {what} ({in_all}): use {most} or less")));
            }
            to.connections = Some(connections);
            Ok(())
        },
        clear: Some(|to| to.connections = None),
        show: |of| Some(of.connections.map_or_else(|| "as any host".into(), |most| most.to_string())),
    },
    Setting {
        key: "adaptive",
        flag: None,
        read: |to, item, _| item.truth().map(|adaptive| to.adaptive = adaptive),
        clear: Some(|to| to.adaptive = false),
        show: |of| Some(of.adaptive.to_string()),
    },
    Setting {
        key: "rate",
        flag: None,
        read: |to, item, _| item.number(RATES.0, RATES.1).map(|rate| to.rate = Some(rate)),
        clear: Some(|to| to.rate = None),
        show: |of| Some(of.rate.map_or_else(|| NONE.into(), |rate| format!("{rate} a second"))),
    },
    Setting {
        key: "timeout",
        flag: Some("--attempt-timeout"),
        read: |to, item, context| {
            to.timeout = item.time(SHORTEST_TIMEOUT, Duration::MAX)?;
            context.limits.check(to.timeout).map_err(|wrong| item.wrong(wrong))
        },
        clear: None,
        show: |of| Some(time(of.timeout)),
    },
    Setting {
        key: "attempts",
        flag: Some("--max-attempts"),
        read: |to, item, _| item.integer(1, 1_000).map(|attempts| to.policy.max_attempts = attempts),
        clear: None,
        show: |of| Some(of.policy.max_attempts.to_string()),
    },
    Setting {
        key: "backoff.initial",
        flag: Some("--backoff-initial"),
        read: |to, item, context| {
            let initial = item.time(TICK, LONGEST_DELAY)?;
            grow(to, context, |backoff| backoff.initial = initial);
            Ok(())
        },
        clear: None,
        show: |of| grown(of).map(|backoff| time(backoff.initial)),
    },
    Setting {
        key: "backoff.factor",
        flag: Some("--backoff-factor"),
        read: |to, item, context| {
            let factor = item.number(1.0, 10.0)?;
            grow(to, context, |backoff| backoff.factor = factor);
            Ok(())
        },
        clear: None,
        show: |of| grown(of).map(|backoff| backoff.factor.to_string()),
    },
    Setting {
        key: "backoff.max",
        flag: Some("--backoff-max"),
        read: |to, item, context| {
            let max = item.time(TICK, LONGEST_DELAY)?;
            grow(to, context, |backoff| backoff.max = max);
            Ok(())
        },
        clear: None,
        show: |of| grown(of).map(|backoff| time(backoff.max)),
    },
    Setting {
        key: "backoff.delays",
        flag: None,
        read: |to, item, _| {
            let listed = item.texts("a list of times, such as [\"1s\", \"1min\", \"1h\"]")?;
            if listed.is_empty() || listed.len() > MOST_DELAYS {
                return Err(item.wrong(format!("this list has {} delays: write 1 to {MOST_DELAYS}", listed.len())));
            }
            let delays = listed.iter().map(|(item, _)| item.time(TICK, LONGEST_DELAY)).collect::<Result<_, _>>()?;
            to.policy.delays = Delays::Listed { delays, jitter: jitter(&to.policy.delays) };
            Ok(())
        },
        clear: None,
        show: |of| match &of.policy.delays {
            Delays::Listed { delays, .. } => Some(list(delays.iter().copied().map(time))),
            Delays::Growing(_) => None,
        },
    },
    Setting {
        key: "backoff.jitter",
        flag: Some("--backoff-jitter"),
        read: |to, item, _| {
            let share = item.number(0.0, 100.0)? / 100.0;
            match &mut to.policy.delays {
                Delays::Growing(Backoff { jitter, .. }) | Delays::Listed { jitter, .. } => *jitter = share,
            }
            Ok(())
        },
        clear: None,
        show: |of| Some(format!("{} %", (jitter(&of.policy.delays) * 1e4).round() / 1e2)),
    },
    Setting {
        key: "retry-after-max",
        flag: Some("--retry-after-max"),
        read: |to, item, _| item.time(Duration::ZERO, LONGEST_DELAY).map(|most| to.policy.retry_after_max = most),
        clear: None,
        show: |of| Some(time(of.policy.retry_after_max)),
    },
    Setting {
        key: "final-statuses",
        flag: Some("--final-statuses"),
        read: |to, item, _| request::statuses(item, 300).map(|statuses| to.policy.final_statuses = statuses),
        clear: None,
        show: |of| Some(list(&of.policy.final_statuses)),
    },
    Setting {
        key: "success-statuses",
        flag: None,
        read: |to, item, _| request::statuses(item, 200).map(|statuses| to.policy.success_statuses = statuses),
        clear: None,
        show: |of| {
            Some(of.policy.success_statuses.first().map_or("200-299".into(), |_| list(&of.policy.success_statuses)))
        },
    },
    Setting {
        key: "on-exhausted",
        flag: Some("--on-exhausted"),
        read: |to, item, _| item.word(&[("continue", false), ("hold", true)]).map(|hold| to.policy.hold = hold),
        clear: None,
        show: |of| Some(if of.policy.hold { "hold" } else { "continue" }.into()),
    },
    Setting {
        key: "gate-failures",
        flag: Some("--gate-failures"),
        read: |to, item, _| item.integer(1, 10_000).map(|failures| to.gate.failures = failures),
        clear: Some(|to| to.gate.failures = 0),
        show: |of| Some(if of.gate.failures == 0 { "never".into() } else { of.gate.failures.to_string() }),
    },
    Setting {
        key: "gate-probe-initial",
        flag: Some("--gate-probe-initial"),
        read: |to, item, _| item.time(gate::SHORTEST, gate::LONGEST).map(|initial| to.gate.probe_initial = initial),
        clear: None,
        show: |of| Some(time(of.gate.probe_initial)),
    },
    Setting {
        key: "gate-probe-max",
        flag: Some("--gate-probe-max"),
        read: |to, item, _| item.time(gate::SHORTEST, gate::LONGEST).map(|max| to.gate.probe_max = max),
        clear: None,
        show: |of| Some(time(of.gate.probe_max)),
    },
    Setting {
        key: "gone",
        flag: Some("--gone"),
        read: |to, item, _| {
            item.word(&[("fail", Gone::Fail), ("pause", Gone::Pause)]).map(|gone| to.policy.gone = gone)
        },
        clear: None,
        show: |of| Some(if of.policy.gone == Gone::Pause { "pause" } else { "fail" }.into()),
    },
    Setting {
        key: "method",
        flag: None,
        read: |to, item, _| {
            let words = [("POST", &Method::POST), ("PUT", &Method::PUT), ("PATCH", &Method::PATCH)];
            item.word(&words).map(|method| to.request.method = method.clone())
        },
        clear: None,
        show: |of| Some(of.request.method.to_string()),
    },
    Setting {
        key: "headers",
        flag: None,
        read: |to, item, context| request::headers(item, context).map(|headers| to.request.headers = headers),
        clear: Some(|to| to.request.headers = HeaderMap::new()),
        // What a value is, is nobody's business: text may be as secret as what a file holds.
        show: |of| Some(list(of.request.headers.keys())),
    },
    Setting {
        key: "cloudevents",
        flag: None,
        read: |to, item, _| {
            let words = [("binary", ContentMode::Binary), ("structured", ContentMode::Structured)];
            item.word(&words).map(|mode| to.request.cloudevents = mode)
        },
        clear: None,
        show: |of| {
            let is_structured = of.request.cloudevents == ContentMode::Structured;
            Some(if is_structured { "structured" } else { "binary" }.into())
        },
    },
    Setting {
        key: "secrets",
        flag: Some("--signing-secrets"),
        read: |to, item, context| request::secrets(item, context).map(|secrets| to.request.secrets = secrets),
        clear: Some(|to| to.request.secrets = SigningSecrets::default()),
        show: |of| Some(of.request.secrets.to_string()),
    },
    Setting {
        key: "oauth2",
        flag: None,
        read: |to, item, context| request::oauth2(item, context).map(|found| to.request.oauth2 = Some(Arc::new(found))),
        clear: Some(|to| to.request.oauth2 = None),
        show: |of| Some(of.request.oauth2.as_ref().map_or_else(|| NONE.into(), |oauth2| request::show_oauth2(oauth2))),
    },
    Setting {
        key: "client-certificate",
        flag: None,
        read: |to, item, context| {
            request::client_certificate(item, context).map(|pem| transport(to).client_certificate = Some(Hidden(pem)))
        },
        clear: Some(|to| transport(to).client_certificate = None),
        show: |of| {
            let given = of.transport.client_certificate.as_ref();
            Some(
                given.map_or_else(
                    || NONE.into(),
                    |Hidden(pem)| format!("{} certificate(s), and a key", pem::count(pem)),
                ),
            )
        },
    },
    Setting {
        key: "ca",
        flag: None,
        read: |to, item, context| {
            let (path, bytes) = context.sources.read(item)?;
            pem::trusted(&bytes).map_err(|wrong| item.wrong(format!("{path}: {wrong}")))?;
            transport(to).ca = Some(bytes.into());
            Ok(())
        },
        clear: Some(|to| transport(to).ca = None),
        show: |of| {
            let given = of.transport.ca.as_ref();
            Some(given.map_or_else(|| "the system's".into(), |pem| format!("{} certificate(s)", pem::count(pem))))
        },
    },
    Setting {
        key: "proxy",
        flag: None,
        read: |to, item, context| {
            let found = context.sources.find(item)?;
            let url = Url::parse(&found.text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
            let what = "this is no URL of a proxy: write http://HOST:PORT or https://HOST:PORT";
            transport(to).proxy = Some(Hidden(url.ok_or_else(|| item.wrong(what))?));
            Ok(())
        },
        clear: Some(|to| transport(to).proxy = None),
        show: |of| {
            let given = of.transport.proxy.as_ref();
            Some(given.map_or_else(|| "as the environment says".into(), |Hidden(url)| redact::url(url)))
        },
    },
    Setting {
        key: "http",
        flag: None,
        read: |to, item, _| {
            transport(to).version = match item.as_integer() {
                Some(1) => HttpVersion::One,
                Some(2) => HttpVersion::Two,
                _ => item.word(&[("auto", HttpVersion::Auto), ("1", HttpVersion::One), ("2", HttpVersion::Two)])?,
            };
            Ok(())
        },
        clear: None,
        show: |of| {
            let version = match of.transport.version {
                HttpVersion::Auto => "auto",
                HttpVersion::One => "1",
                HttpVersion::Two => "2",
            };
            Some(version.into())
        },
    },
    Setting {
        key: "allow",
        flag: None,
        read: |to, item, _| networks(item).map(|networks| transport(to).allow = networks),
        clear: None,
        show: |of| Some(list(&of.transport.allow)),
    },
    Setting {
        key: "deny",
        flag: None,
        read: |to, item, _| networks(item).map(|networks| transport(to).deny = networks),
        clear: None,
        show: |of| Some(list(&of.transport.deny)),
    },
];

/// What settings have to keep to together.
pub(super) struct Rule {
    pub(super) keys: &'static [&'static str],
    /// What is wrong, if something is.
    pub(super) broken: fn(&Destination) -> Option<String>,
}

pub(super) const RULES: [Rule; 4] = [
    Rule {
        keys: &["gate-probe-initial", "gate-probe-max"],
        broken: |of| {
            let gate = Some(of.gate).filter(|gate| gate.probe_max < gate.probe_initial)?;
            let (max, initial) = (time(gate.probe_max), time(gate.probe_initial));
            Some(format!("gate-probe-max ({max}) is less than gate-probe-initial ({initial}): raise it"))
        },
    },
    Rule {
        keys: &["backoff.initial", "backoff.max"],
        broken: |of| {
            let backoff = grown(of).filter(|backoff| backoff.max < backoff.initial)?;
            let (max, initial) = (time(backoff.max), time(backoff.initial));
            Some(format!("backoff.max ({max}) is less than backoff.initial ({initial}): raise it"))
        },
    },
    Rule {
        keys: &["final-statuses", "success-statuses"],
        broken: |of| {
            let both = of.policy.success_statuses.intersection(&of.policy.final_statuses).next()?;
            Some(format!("{both} is in final-statuses and in success-statuses: leave it out of one of them"))
        },
    },
    Rule {
        keys: &["headers", "oauth2"],
        broken: |of| {
            let twice = of.request.oauth2.is_some() && of.request.headers.contains_key(http::header::AUTHORIZATION);
            twice.then(|| "the header authorization is set, and by oauth2, too: leave one of them out".into())
        },
    },
];

/// Transports that stay as they are stay shared.
fn transport(of: &mut Destination) -> &mut Transport {
    Arc::make_mut(&mut of.transport)
}

fn grown(of: &Destination) -> Option<&Backoff> {
    match &of.policy.delays {
        Delays::Growing(backoff) => Some(backoff),
        Delays::Listed { .. } => None,
    }
}

/// Changes the growing delays: those of the flags, if the defaults have a list.
fn grow(to: &mut Destination, context: &Context, change: impl FnOnce(&mut Backoff)) {
    let mut backoff = match to.policy.delays {
        Delays::Growing(backoff) => backoff,
        Delays::Listed { jitter, .. } => Backoff { jitter, ..context.backoff },
    };
    change(&mut backoff);
    to.policy.delays = Delays::Growing(backoff);
}

fn jitter(of: &Delays) -> f64 {
    match of {
        Delays::Growing(Backoff { jitter, .. }) | Delays::Listed { jitter, .. } => *jitter,
    }
}

/// Networks and single addresses.
fn networks(item: Item<'_>) -> Result<Vec<IpNet>, Complaint> {
    let write = "a list of networks, such as [\"10.0.0.0/8\", \"fd00::/8\"]";
    let read = |(item, text): (Item<'_>, &str)| {
        let single = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let network = text.parse::<IpNet>().ok().or_else(single);
        let network = network.ok_or_else(|| item.wrong(format!("{} is no network: write {write}", shown(text))))?;
        if network != network.trunc() {
            let whole = network.trunc();
            let what = format!("{} is an address within a network: write {whole} or {}", shown(text), network.addr());
            return Err(item.wrong(what));
        }
        Ok(network)
    };
    item.texts(write)?.into_iter().map(read).collect()
}

fn time(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { NONE.into() } else { items.join(", ") }
}
