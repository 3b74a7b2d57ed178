//! Where the servers are: their URLs, given by themselves or in files.

use std::path::PathBuf;

use clap::{ArgMatches, Args};
use percent_encoding::percent_decode_str;
use url::Url;

use super::file::{Flags, read_by};
use super::nodes::{self, BrokerUrls};
use super::secret::DATABASE_URL;
use super::tls::{Tls, refuses_tls, uses_tls_of_broker};
use super::{SecretUrl, exchange_name};

const AMQP_FLAGS: Flags = Flags { itself: "amqp-url", file: "amqp-url-file" };
const DATABASE_FLAGS: Flags = Flags { itself: "database-url", file: "database-url-file" };

/// Where the broker is.
#[derive(Clone, Debug)]
pub struct BrokerArgs {
    /// The broker's nodes.
    pub amqp_url: BrokerUrls,
    /// The exchange that events are published to.
    pub exchange: String,
    /// A flag of TLS that is given though no node's URL uses TLS.
    tls_without_use: Option<&'static str>,
}

/// Where the database is.
#[derive(Clone, Debug)]
pub struct DatabaseArgs {
    /// The database.
    pub database_url: SecretUrl,
    /// A flag of TLS that is given though the URL refuses TLS.
    tls_without_use: Option<&'static str>,
}

/// How the broker is given.
#[derive(Args)]
struct BrokerFlags {
    /// The broker: amqp://USER:PASSWORD@HOST:PORT/VHOST, or amqps://… for TLS; of a cluster, the URLs of several nodes
    /// with commas between them, tried in turn
    #[arg(long, env = "ONCEWARD_AMQP_URL", hide_env_values = true, value_name = "URL[,URL…]",
        value_parser = nodes::Parser, required_unless_present = "amqp_url_file")]
    amqp_url: Option<BrokerUrls>,
    /// A file that holds the broker's URL, such as a secret of a container
    #[arg(long, env = "ONCEWARD_AMQP_URL_FILE", value_name = "FILE")]
    amqp_url_file: Option<PathBuf>,
    /// The exchange that events are published to
    #[arg(long, env = "ONCEWARD_EXCHANGE", default_value = "events", value_parser = exchange_name)]
    exchange: String,
    #[command(flatten)]
    tls: Tls,
}

/// How the database is given.
#[derive(Args)]
struct DatabaseFlags {
    /// The database: postgres://USER:PASSWORD@HOST:PORT/DATABASE
    #[arg(long, env = "ONCEWARD_DATABASE_URL", hide_env_values = true, value_name = "URL", value_parser = DATABASE_URL,
        required_unless_present = "database_url_file")]
    database_url: Option<SecretUrl>,
    /// A file that holds the database's URL, such as a secret of a container
    #[arg(long, env = "ONCEWARD_DATABASE_URL_FILE", value_name = "FILE")]
    database_url_file: Option<PathBuf>,
    #[command(flatten)]
    tls: Tls,
}

read_by!(BrokerArgs, BrokerFlags);
read_by!(DatabaseArgs, DatabaseFlags);

impl BrokerArgs {
    /// A flag of TLS that is given, though the connection to the broker is not encrypted.
    #[must_use]
    pub fn tls_without_use(&self) -> Option<&'static str> {
        self.tls_without_use
    }

    /// The virtual host that the URLs name, as the broker's tools write it.
    #[must_use]
    pub fn vhost(&self) -> String {
        let url = Url::parse(self.amqp_url.first().reveal()).ok();
        let path = url.as_ref().and_then(|url| url.path().strip_prefix('/')).unwrap_or("%2f");
        percent_decode_str(path).decode_utf8_lossy().into_owned()
    }

    fn read(flags: BrokerFlags, matches: &ArgMatches) -> Result<Self, clap::Error> {
        let BrokerFlags { amqp_url, amqp_url_file, exchange, tls } = flags;
        let amqp_url = AMQP_FLAGS.choose(matches, amqp_url, amqp_url_file, &nodes::Parser)?;
        let amqp_url = amqp_url.map(|url| tls.for_broker(url))?;
        let tls_without_use = tls.given().filter(|_| !amqp_url.all().iter().any(uses_tls_of_broker));
        Ok(Self { amqp_url, exchange, tls_without_use })
    }
}

impl DatabaseArgs {
    fn read(flags: DatabaseFlags, matches: &ArgMatches) -> Result<Self, clap::Error> {
        let DatabaseFlags { database_url, database_url_file, tls } = flags;
        let database_url = DATABASE_FLAGS.choose(matches, database_url, database_url_file, &DATABASE_URL)?;
        let database_url = tls.for_database(database_url)?;
        let tls_without_use = tls.given().filter(|_| refuses_tls(&database_url));
        Ok(Self { database_url, tls_without_use })
    }
}

/// Whether flags of TLS are used by one of the servers.
///
/// # Errors
/// Which one is not, and what to write.
pub(super) fn fit_together(broker: &BrokerArgs, database: &DatabaseArgs) -> Result<(), String> {
    match broker.tls_without_use.and(database.tls_without_use) {
        None => Ok(()),
        Some(flag) => Err(format!(
            "{flag} is used by neither server: --amqp-url is amqp://, and --database-url has sslmode=disable; write amqps:// or \
             another sslmode, or leave {flag} out"
        )),
    }
}
