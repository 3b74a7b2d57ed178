//! URLs with a secret in them: destinations, and the servers' URLs. Whatever is said about them, the secret is not.

use clap::Parser as _;
use lapin::uri::AMQPUri;
use onceward::config::{BrokerArgs, DatabaseArgs, SecretUrl};
use onceward::domain::contract::read_destination;
use onceward::domain::redact;
use onceward::store::Database;

use super::{SECRET, lines};
use crate::engine::{Target, fuzz};

#[derive(Debug, clap::Parser)]
struct Broker {
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Debug, clap::Parser)]
struct Db {
    #[command(flatten)]
    database: DatabaseArgs,
}

/// The parts of a URL, a line for each; the secret is part of the password, or of a value in the query.
struct Parts {
    scheme: String,
    user: String,
    password: String,
    host: String,
    path: String,
}

impl Parts {
    fn of(input: &[u8]) -> Self {
        let parts: [String; 6] = lines(input);
        let [scheme, user, before, after, host, path] = parts.map(|part| part.replace(SECRET, ""));
        Self { scheme, user, password: format!("{before}{SECRET}{after}"), host, path }
    }

    fn with_password(&self) -> String {
        let Self { scheme, user, password, host, path } = self;
        format!("{scheme}://{user}:{password}@{host}{path}")
    }

    fn with_query(&self, mark: char, name: &str) -> String {
        let Self { scheme, password, host, path, .. } = self;
        format!("{scheme}://{host}{path}{mark}{name}={password}")
    }
}

fn unseen(told: &str, of: &str) {
    assert!(!told.contains(SECRET), "the secret of {of:?} is shown: {told}");
}

fn destination(input: &[u8]) -> &'static str {
    let parts = Parts::of(input);
    let outcomes =
        [parts.with_password(), parts.with_query('?', "token"), parts.with_query('#', "token")].map(|text| {
            unseen(&redact::text(&text), &text);
            match read_destination(&text) {
                Err(poison) => {
                    unseen(&poison.to_string(), &text);
                    "refused"
                }
                // What the URL's reader takes for host or path is none: the request goes there.
                Ok(url) if url.path().contains(SECRET) || url.host_str().is_some_and(|host| host.contains(SECRET)) => {
                    "elsewhere"
                }
                Ok(url) => {
                    unseen(&redact::url(&url), &text);
                    "accepted"
                }
            }
        });
    outcomes[0]
}

fn servers(input: &[u8]) -> &'static str {
    let parts = Parts::of(input);
    if parts.password.contains("://") {
        // Only then it may be two URLs.
        return "two";
    }
    let mut outcomes = Vec::new();
    for text in [parts.with_password(), parts.with_query('?', "user=u&password")] {
        let broker = Broker::try_parse_from(["onceward", &format!("--amqp-url={text}")]);
        let database = Db::try_parse_from(["onceward", &format!("--database-url={text}")]);
        unseen(&format!("{broker:?}"), &text);
        unseen(&format!("{database:?}"), &text);
        outcomes.push(match (broker, database) {
            (Ok(broker), _) => used(broker.broker.amqp_url.first(), |url| url.parse::<AMQPUri>().map(drop)),
            (_, Ok(database)) => {
                let url = &database.database.database_url;
                used(url, |_| Database::new(url, "fuzz").map(drop).map_err(|error| error.to_string()))
            }
            (Err(broker), Err(database)) => {
                unseen(&format!("{broker} {database}"), &text);
                "refused"
            }
        });
    }
    outcomes[0]
}

/// Those who connect read the URL once more.
fn used(url: &SecretUrl, read: impl Fn(&str) -> Result<(), String>) -> &'static str {
    unseen(&url.to_string(), url.reveal());
    match read(url.reveal()) {
        Ok(()) => "accepted",
        Err(error) => {
            unseen(&error, url.reveal());
            "unusable"
        }
    }
}

const WORDS: &[&str] = &[
    "\n",
    "@",
    "://",
    "?",
    "#",
    "/",
    "\\",
    "&",
    "=",
    ":",
    ",",
    "%",
    "%2f",
    "%40",
    "+",
    " ",
    "\\n",
    "\\t",
    "http",
    "https",
    "ftp",
    "amqp",
    "amqps",
    "postgres",
    "postgresql",
    "localhost",
    "[::1]",
    "127.0.0.1",
    ":5672",
    ":99999",
    "host=/run",
    "sslmode=",
    "options[x]=",
    "ß",
];

#[test]
fn destinations() {
    fuzz(&Target { name: "destination", words: WORDS, run: destination });
}

#[test]
fn servers_of_the_settings() {
    fuzz(&Target { name: "servers", words: WORDS, run: servers });
}
