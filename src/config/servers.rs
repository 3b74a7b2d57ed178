//! Where the servers are: their URLs, given by themselves or in files.

use std::path::PathBuf;

use clap::{ArgMatches, Args, FromArgMatches};

use super::file::Flags;
use super::nodes::{self, BrokerUrls};
use super::{DATABASE_URL, SecretUrl, exchange_name};

const AMQP_FLAGS: Flags = Flags { itself: "amqp-url", file: "amqp-url-file" };
const DATABASE_FLAGS: Flags = Flags { itself: "database-url", file: "database-url-file" };

/// Where the broker is.
#[derive(Clone, Debug)]
pub struct BrokerArgs {
    /// The broker's nodes.
    pub amqp_url: BrokerUrls,
    /// The exchange that events are published to.
    pub exchange: String,
}

/// Where the database is.
#[derive(Clone, Debug)]
pub struct DatabaseArgs {
    /// The database.
    pub database_url: SecretUrl,
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
}

impl FromArgMatches for BrokerArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let BrokerFlags { amqp_url, amqp_url_file, exchange } = BrokerFlags::from_arg_matches(matches)?;
        let amqp_url = AMQP_FLAGS.choose(matches, amqp_url, amqp_url_file, &nodes::Parser)?;
        Ok(Self { amqp_url, exchange })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for BrokerArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        BrokerFlags::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        BrokerFlags::augment_args_for_update(command)
    }
}

impl FromArgMatches for DatabaseArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let DatabaseFlags { database_url, database_url_file } = DatabaseFlags::from_arg_matches(matches)?;
        let database_url = DATABASE_FLAGS.choose(matches, database_url, database_url_file, &DATABASE_URL)?;
        Ok(Self { database_url })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for DatabaseArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        DatabaseFlags::augment_args(command)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        DatabaseFlags::augment_args_for_update(command)
    }
}
