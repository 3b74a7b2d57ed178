//! The worker's flags that hold where the file says nothing, for a command that is no worker.

use clap::builder::Resettable;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use super::settings;
use crate::config::secret::DATABASE_URL;
use crate::config::{WorkerArgs, nodes};

/// What settings have to fit into, and where signing secrets may stand: no settings of an entry themselves.
const OTHERS: [&str; 4] = ["drain-time", "lease", "max-in-flight", "signing-secrets-file"];

/// The settings of `onceward worker`, of which only those matter here that an entry may set, or has to fit into. The others
/// are accepted as well, so that a worker's command line can be taken over, but neither asked for nor shown.
#[derive(Clone, Debug)]
pub struct WorkerFlags(pub WorkerArgs);

impl Args for WorkerFlags {
    fn augment_args(command: Command) -> Command {
        let own: Vec<_> = command.get_arguments().map(|arg| arg.get_id().clone()).collect();
        let matters = |flag: &str| {
            OTHERS.contains(&flag)
                || settings().iter().any(|setting| setting.flag.is_some_and(|of| of.trim_start_matches('-') == flag))
        };
        WorkerArgs::augment_args(command).mut_args(|arg| {
            if own.contains(arg.get_id()) || arg.get_long().is_some_and(matters) {
                return arg;
            }
            // Of these a worker has to be given one or another, which can't be taken back: they are made anew.
            match arg.get_id().as_str() {
                "amqp_url" => {
                    let arg = Arg::new("amqp_url").long("amqp-url").hide(true);
                    arg.value_parser(nodes::Parser).default_value("amqp://localhost")
                }
                "database_url" => {
                    let arg = Arg::new("database_url").long("database-url").hide(true);
                    arg.value_parser(DATABASE_URL).default_value("postgres://localhost/onceward")
                }
                _ => arg.hide(true).env(Resettable::Reset),
            }
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for WorkerFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        WorkerArgs::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
