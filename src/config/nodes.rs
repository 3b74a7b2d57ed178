//! The nodes of a broker: one URL, or several of one cluster.

use std::ffi::OsStr;
use std::fmt;

use clap::Arg;
use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use url::Url;

use super::secret::AMQP_URL;
use super::secret_url::SecretUrl;

/// The URLs of a broker's nodes, at least one.
#[derive(Clone)]
pub struct BrokerUrls(Vec<SecretUrl>);

impl BrokerUrls {
    /// The node that is tried first.
    #[must_use]
    pub fn first(&self) -> &SecretUrl {
        &self.0[0]
    }

    /// The same nodes, their URLs changed.
    pub(super) fn map<E>(self, change: impl Fn(SecretUrl) -> Result<SecretUrl, E>) -> Result<Self, E> {
        self.0.into_iter().map(change).collect::<Result<_, _>>().map(Self)
    }

    /// All of them, in their order.
    #[must_use]
    pub fn all(&self) -> &[SecretUrl] {
        &self.0
    }

    /// All of them, beginning with another one and going round; in the form in which they are given.
    #[must_use]
    pub fn reveal_from(&self, turn: usize) -> String {
        let (before, from) = self.0.split_at(turn % self.0.len());
        let urls: Vec<_> = from.iter().chain(before).map(SecretUrl::reveal).collect();
        urls.join(",")
    }
}

/// Without passwords.
impl fmt::Display for BrokerUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&urls.join(","))
    }
}

impl fmt::Debug for BrokerUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Reads the URLs; what is wrong is told without a password.
#[derive(Clone)]
pub(super) struct Parser;

impl TypedValueParser for Parser {
    type Value = BrokerUrls;

    fn parse_ref(&self, cmd: &clap::Command, arg: Option<&Arg>, value: &OsStr) -> Result<BrokerUrls, clap::Error> {
        let text = value.to_str().unwrap_or_default();
        let read = |url: &str| AMQP_URL.parse_ref(cmd, arg, OsStr::new(url));
        let urls = split(text).into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        fit_together(&urls).map_err(|wrong| {
            let name = arg.map(ToString::to_string).unwrap_or_default();
            let message = format!("invalid value for '{name}': {wrong}\n");
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(cmd)
        })?;
        Ok(BrokerUrls(urls))
    }
}

/// A comma may also be part of a password; one between two URLs is followed by a scheme.
fn split(text: &str) -> Vec<&str> {
    let begins = |text: &str| ["amqp://", "amqps://"].iter().any(|scheme| text.trim_start().starts_with(scheme));
    let commas = text.match_indices(',').map(|(at, _)| at).filter(|at| begins(&text[at + 1..]));
    let mut urls = Vec::new();
    let mut from = 0;
    for comma in commas {
        urls.push(text[from..comma].trim());
        from = comma + 1;
    }
    urls.push(text[from..].trim());
    urls
}

fn fit_together(urls: &[SecretUrl]) -> Result<(), String> {
    let urls: Vec<_> = urls.iter().filter_map(|url| Url::parse(url.reveal()).ok()).collect();
    if urls.iter().any(|url| url.host_str().is_some_and(|host| host.contains(','))) {
        return Err(
            "write a whole URL for each node: amqp://user:password@one:5672,amqp://user:password@two:5672".into()
        );
    }
    // RabbitMQ's default virtual host, in its three spellings.
    let vhost = |url: &Url| match url.path() {
        "" | "/%2F" => "/%2f".to_owned(),
        path => path.to_owned(),
    };
    match urls.iter().find(|url| vhost(url) != vhost(&urls[0])) {
        Some(other) => {
            let (first, other) = (vhost(&urls[0]), vhost(other));
            Err(format!("the URLs name different virtual hosts ({first} and {other}): use the same for all nodes"))
        }
        None => Ok(()),
    }
}
