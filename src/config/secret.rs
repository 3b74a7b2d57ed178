//! URLs that hold a password, and what is said about those that would be misunderstood: nothing of the text is repeated where
//! it may be part of the password.

use std::ffi::OsStr;

use clap::Arg;
use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use percent_encoding::percent_decode_str;
use url::Url;

use super::secret_url::SecretUrl;
use super::tls;

/// Reads a URL that may hold a password; clap's own message would repeat the value, password and all.
#[derive(Clone)]
pub(super) struct SecretUrlParser {
    schemes: [&'static str; 2],
    example: &'static str,
    /// What else such a URL has to be.
    check: fn(&Url) -> Result<(), String>,
}

pub(super) const AMQP_URL: SecretUrlParser = SecretUrlParser {
    schemes: ["amqp", "amqps"],
    example: "amqp://user:password@host:5672/vhost",
    check: |url| if url.has_host() { tls::broker_parameters(url) } else { Err(String::new()) },
};
pub(super) const DATABASE_URL: SecretUrlParser = SecretUrlParser {
    schemes: ["postgres", "postgresql"],
    example: "postgres://user:password@host:5432/database, or for a socket postgres:///database?host=/DIRECTORY&user=USER",
    check: database,
};

impl TypedValueParser for SecretUrlParser {
    type Value = SecretUrl;

    fn parse_ref(&self, cmd: &clap::Command, arg: Option<&Arg>, value: &OsStr) -> Result<SecretUrl, clap::Error> {
        self.read(value.to_str().unwrap_or_default()).map_err(|wrong| {
            let name = arg.map(ToString::to_string).unwrap_or_default();
            let message = format!("invalid value for '{name}': {wrong}write it like {}\n", self.example);
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(cmd)
        })
    }
}

impl SecretUrlParser {
    fn read(&self, text: &str) -> Result<SecretUrl, String> {
        let is_ours = text
            .split_once("://")
            .is_some_and(|(scheme, _)| self.schemes.iter().any(|ours| ours.eq_ignore_ascii_case(scheme)));
        if is_ours {
            parts(text, self.schemes.contains(&"postgres"))?;
        }
        let secret: SecretUrl = text.parse().map_err(|error| format!("{error}: "))?;
        let url = Url::parse(text).ok().filter(|_| is_ours).ok_or_else(String::new)?;
        let decoded = [url.username(), url.password().unwrap_or_default(), url.path()].map(percent_decode_str);
        if decoded.into_iter().any(|part| part.decode_utf8().is_err()) {
            return Err("a % in user or password is written %25: ".into());
        }
        (self.check)(&url).map(|()| secret)
    }
}

/// What a reader of URLs would take for another part without complaint, or complain of in words that lead nowhere.
fn parts(text: &str, one_host: bool) -> Result<(), String> {
    let (_, rest) = text.split_once("://").unwrap_or_default();
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if rest.contains('#') {
        return Err("a # is written %23: ".into());
    }
    if behind.contains('@') {
        return Err(
            "in user or password, / is written %2F and ? is written %3F; behind the host, @ is written %40: ".into()
        );
    }
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    if one_host && hosts.contains(',') { Err(SEVERAL_HOSTS.into()) } else { Ok(()) }
}

const SEVERAL_HOSTS: &str = "it names several hosts: name one, which leads to the primary and follows it (a virtual address, \
     a name that your cluster moves, or a proxy), and ";

/// The parameters that the client of PostgreSQL knows.
const PARAMETERS: [&str; 12] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

fn database(url: &Url) -> Result<(), String> {
    let (mut has_host, mut has_password) = (url.has_host(), false);
    for (name, value) in url.query_pairs() {
        if !PARAMETERS.contains(&&*name) && !name.starts_with("options[") {
            if has_password {
                // It may be the rest of the password.
                return Err(
                    "of a parameter behind `password` the name is not known; in a password, & is written %26: ".into(),
                );
            }
            return Err(format!(
                "its parameter {name:?} is not known: leave it out (known are {}), and ",
                PARAMETERS.join(", ")
            ));
        }
        has_password |= name == "password";
        has_host |= name.starts_with("host");
        if (name.starts_with("host") || name == "port") && value.contains(',') {
            return Err(SEVERAL_HOSTS.into());
        }
        if name == "port" && value.parse::<u16>().is_err() {
            return Err("behind port= is no port: ".into());
        }
    }
    if has_host { Ok(()) } else { Err(String::new()) }
}
