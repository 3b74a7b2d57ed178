//! What requests are signed with.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args};

use super::file::{Flags, read_by};
use crate::domain::signature::SigningSecrets;

const FLAGS: Flags = Flags { itself: "signing-secrets", file: "signing-secrets-file" };

/// The secrets that requests are signed with, if they are.
#[derive(Clone, Debug)]
pub struct SigningArgs {
    /// None signs nothing.
    pub secrets: SigningSecrets,
}

#[derive(Args)]
struct SigningFlags {
    /// Secrets that requests are signed with, `whsec_BASE64` (HMAC) or `whsk_BASE64` (ed25519), with spaces between them;
    /// each makes a signature, so that an old one and a new one hold side by side [default: none]
    #[arg(long, env = "ONCEWARD_SIGNING_SECRETS", hide_env_values = true, value_name = "SECRETS", value_parser = Parser)]
    signing_secrets: Option<SigningSecrets>,
    /// A file that holds them in one line, such as a secret of a container
    #[arg(long, env = "ONCEWARD_SIGNING_SECRETS_FILE", value_name = "FILE")]
    signing_secrets_file: Option<PathBuf>,
}

read_by!(SigningArgs, SigningFlags);

impl SigningArgs {
    fn read(flags: SigningFlags, matches: &ArgMatches) -> Result<Self, clap::Error> {
        let SigningFlags { signing_secrets, signing_secrets_file } = flags;
        let secrets = FLAGS.find(matches, signing_secrets, signing_secrets_file, &Parser)?;
        Ok(Self { secrets: secrets.unwrap_or_default() })
    }
}

/// clap's own message would show the secrets.
#[derive(Clone)]
struct Parser;

impl TypedValueParser for Parser {
    type Value = SigningSecrets;

    fn parse_ref(&self, cmd: &clap::Command, arg: Option<&Arg>, value: &OsStr) -> Result<SigningSecrets, clap::Error> {
        value.to_str().unwrap_or_default().parse().map_err(|wrong| {
            let name = arg.map(ToString::to_string).unwrap_or_default();
            let example = "make one by: echo whsec_$(openssl rand -base64 32)";
            clap::Error::raw(ErrorKind::ValueValidation, format!("invalid value for '{name}': {wrong}; {example}\n"))
                .with_cmd(cmd)
        })
    }
}
