//! TLS to the broker and the database: whom to trust, and what to show of oneself. Given by flags for both, or in a URL for one;
//! behind this room it is part of the URL, in the spelling of each server's own tools.

use std::io;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, Command, FromArgMatches};
use rustls::{AlertDescription, CertificateError};
use url::Url;
use url::form_urlencoded::Serializer;

use super::destinations::{LONGEST_FILE, pem};
use super::given::read_file;
use super::secret_url::SecretUrl;

/// How the files are called in a URL: authority, certificate, key.
type Spelling = [&'static str; 3];

/// As RabbitMQ's URI specification has it.
const AMQP: Spelling = ["cacertfile", "certfile", "keyfile"];
/// As libpq has it.
const DATABASE: Spelling = ["sslrootcert", "sslcert", "sslkey"];
/// What may stand behind the ? of a broker's URL, besides the files; numbers but the last.
const AMQP_PARAMETERS: [&str; 5] = ["heartbeat", "channel_max", "frame_max", "connection_timeout", "auth_mechanism"];

/// The flags, which hold for broker and database.
#[derive(Args)]
struct Flags {
    /// Certificates of authorities to trust besides the system's, in PEM, for broker and database; with it, the database is
    /// asked for TLS and its certificate is verified (sslmode=verify-full)
    #[arg(long, env = "ONCEWARD_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The certificate to show to broker and database, in PEM
    #[arg(long, env = "ONCEWARD_CLIENT_CERTIFICATE", value_name = "FILE", requires = "client_key")]
    client_certificate: Option<PathBuf>,
    /// Its key, in PEM
    #[arg(long, env = "ONCEWARD_CLIENT_KEY", value_name = "FILE", requires = "client_certificate")]
    client_key: Option<PathBuf>,
}

/// The flags, once for both servers: a command that has broker and database takes them in two places.
pub(super) struct Tls(Flags);

impl Args for Tls {
    fn augment_args(command: Command) -> Command {
        let is_there = command.get_arguments().any(|arg| arg.get_id() == "ca_file");
        if is_there { command } else { Flags::augment_args(command) }
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Tls {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Flags::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Tls {
    /// A broker's URL with what the flags say; without TLS it stays as it is.
    pub(super) fn for_broker(&self, url: SecretUrl) -> Result<SecretUrl, clap::Error> {
        if uses_tls_of_broker(&url) { self.checked(url, AMQP, "--amqp-url") } else { Ok(url) }
    }

    /// The database's URL with what the flags say.
    pub(super) fn for_database(&self, url: SecretUrl) -> Result<SecretUrl, clap::Error> {
        if refuses_tls(&url) {
            return Ok(url);
        }
        let mode = parameter(&url, "sslmode");
        let url = match (&self.0.ca_file, mode.as_deref()) {
            (None, _) | (_, Some("verify-ca" | "verify-full")) => url,
            (Some(_), None) => with(&url, &[("sslmode", "verify-full")]),
            (Some(_), Some(_)) => {
                let wrong = "with its sslmode any certificate will do, and --ca-file (ONCEWARD_CA_FILE) is of no use: write \
                             sslmode=verify-full, or sslmode=disable for a database without TLS";
                return Err(refused("--database-url <URL>", wrong));
            }
        };
        self.checked(url, DATABASE, "--database-url")
    }

    /// The first of these flags that is given.
    pub(super) fn given(&self) -> Option<&'static str> {
        let Flags { ca_file, client_certificate, .. } = &self.0;
        let authority = ca_file.as_ref().map(|_| "--ca-file");
        authority.or_else(|| client_certificate.as_ref().map(|_| "--client-certificate"))
    }

    /// A URL with what the flags add to it, once its files have been looked at.
    fn checked(&self, url: SecretUrl, spelling: Spelling, flag: &str) -> Result<SecretUrl, clap::Error> {
        let (before, url) = (files(&url, spelling), self.added(url, spelling));
        let PemFiles { authorities, identity } = files(&url, spelling);
        // What the URL does not name comes from a flag of its own.
        let name =
            |is_in_url: bool, own: &str| if is_in_url { format!("{flag} <URL>") } else { format!("{own} <FILE>") };
        let judge = |files: PemFiles, name: &dyn Fn(&str) -> String| {
            read(&files).map(drop).map_err(|wrong| refused(&name(&wrong), &wrong))
        };
        let is_key = |wrong: &str| {
            let key = identity.as_ref().map(|(_, key)| format!("{}: ", key.display()));
            key.is_some_and(|key| wrong.starts_with(&key))
        };
        judge(PemFiles { authorities, identity: None }, &|_| name(before.authorities.is_some(), "--ca-file"))?;
        judge(PemFiles { authorities: None, identity: identity.clone() }, &|wrong| {
            let own = if is_key(wrong) { "--client-key" } else { "--client-certificate" };
            name(before.identity.is_some(), own)
        })?;
        Ok(url)
    }

    /// What a URL names itself takes precedence over the flags.
    fn added(&self, url: SecretUrl, [authority, certificate, key]: Spelling) -> SecretUrl {
        let Flags { ca_file, client_certificate, client_key } = &self.0;
        let mut pairs = Vec::new();
        if parameter(&url, authority).is_none() {
            pairs.extend(ca_file.as_deref().and_then(Path::to_str).map(|path| (authority, path)));
        }
        if parameter(&url, certificate).is_none() && parameter(&url, key).is_none() {
            pairs.extend(client_certificate.as_deref().and_then(Path::to_str).map(|path| (certificate, path)));
            pairs.extend(client_key.as_deref().and_then(Path::to_str).map(|path| (key, path)));
        }
        if pairs.is_empty() { url } else { with(&url, &pairs) }
    }
}

fn refused(what: &str, wrong: &str) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, format!("invalid value for '{what}': {wrong}\n"))
}

/// Whether a broker's URL asks for TLS.
pub(super) fn uses_tls_of_broker(url: &SecretUrl) -> bool {
    url.reveal().starts_with("amqps:")
}

/// Whether the database's URL wants no TLS.
pub(super) fn refuses_tls(url: &SecretUrl) -> bool {
    parameter(url, "sslmode").as_deref() == Some("disable")
}

fn parameter(url: &SecretUrl, name: &str) -> Option<String> {
    let url = Url::parse(url.reveal()).ok()?;
    url.query_pairs().find(|(other, _)| other == name).map(|(_, value)| value.into_owned())
}

/// The text stays as it was given: a URL's reader would write a password anew.
fn with(url: &SecretUrl, pairs: &[(&str, &str)]) -> SecretUrl {
    let added = Serializer::new(String::new()).extend_pairs(pairs).finish();
    let mark = if url.reveal().contains('?') { '&' } else { '?' };
    url.extended(&format!("{mark}{added}"))
}

/// What a broker's URL may have behind its ?.
///
/// # Errors
/// What is wrong, without the text: it may be the rest of a password.
pub(super) fn broker_parameters(url: &Url) -> Result<(), String> {
    for (name, value) in url.query_pairs() {
        let is_file = AMQP.contains(&&*name);
        if is_file && url.scheme() != "amqps" {
            return Err(format!("{} are for TLS, which an amqps:// URL has; ", AMQP.join(", ")));
        }
        if !is_file && !AMQP_PARAMETERS.contains(&&*name) {
            let known = [&AMQP_PARAMETERS[..], &AMQP].concat().join(", ");
            return Err(format!(
                "of a parameter behind ? the name is not known: leave it out (known are {known}), and "
            ));
        }
        let is_number = is_file || name == "auth_mechanism" || value.parse::<u16>().is_ok() || {
            matches!(&*name, "frame_max" | "connection_timeout") && value.parse::<u32>().is_ok()
        };
        if !is_number {
            return Err(format!("behind {name}= is no number that it may be: "));
        }
        if name == "auth_mechanism" && !["plain", "external"].contains(&&*value) {
            return Err("auth_mechanism is plain, or external where the certificate names the user: ".into());
        }
    }
    Ok(())
}

/// Files in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PemFiles {
    /// Certificates of authorities to trust besides the system's.
    pub authorities: Option<PathBuf>,
    /// What to show: a certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What the files hold.
#[derive(Clone, Default)]
pub struct Pem {
    /// Certificates of authorities to trust besides the system's.
    pub authorities: Option<Vec<u8>>,
    /// What to show: a certificate and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// The files that a broker's URL names.
#[must_use]
pub fn of_broker(url: &SecretUrl) -> PemFiles {
    files(url, AMQP)
}

fn files(url: &SecretUrl, [authority, certificate, key]: Spelling) -> PemFiles {
    let path = |name| parameter(url, name).map(PathBuf::from);
    // One without the other is told by whoever reads it: it is no file.
    let identity = match (path(certificate), path(key)) {
        (None, None) => None,
        (certificate, key) => Some((certificate.unwrap_or_default(), key.unwrap_or_default())),
    };
    PemFiles { authorities: path(authority), identity }
}

/// Reads the files, and looks at what they hold. A connection reads them anew: certificates are replaced while a worker runs.
///
/// # Errors
/// Which file is of no use, and why.
pub fn read(files: &PemFiles) -> Result<Pem, String> {
    let bytes = |path: &Path| {
        if path.as_os_str().is_empty() {
            return Err("a certificate and its key have to be given together".to_owned());
        }
        read_file(path, LONGEST_FILE).map_err(|wrong| format!("{}: {wrong}", path.display()))
    };
    let authorities = files.authorities.as_deref().map(|path| {
        let pem = bytes(path)?;
        pem::trusted(&pem).map_err(|wrong| format!("{}: {wrong}", path.display()))?;
        Ok::<_, String>(pem)
    });
    let identity = files.identity.as_ref().map(|(certificate, key)| {
        let both = (bytes(certificate)?, bytes(key)?);
        pem::identity(&both.0, &both.1)
            .map_err(|wrong| format!("{} and {}: {wrong}", certificate.display(), key.display()))?;
        Ok::<_, String>(both)
    });
    Ok(Pem { authorities: authorities.transpose()?, identity: identity.transpose()? })
}

/// What keeps a connection by TLS from being made, and what to do about it; none if it is anything else.
#[must_use]
pub fn explain(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is of an authority that this machine does not trust: name the authority's certificate by \
             --ca-file"
                .into()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => format!("its certificate is for another host than the URL's: {error}"),
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::HandshakeFailure
            | AlertDescription::BadCertificate,
        ) => format!("it wants a client certificate, or another one: --client-certificate and --client-key ({error})"),
        rustls::Error::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) => {
            let days = days(time.as_secs().saturating_sub(not_after.as_secs()));
            format!("its certificate has expired, {days} ago: it has to be renewed there")
        }
        rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) => {
            let days = days(not_before.as_secs().saturating_sub(time.as_secs()));
            format!("its certificate is not valid yet, for {days} more: look at the clock of this machine")
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateExpired) => {
            format!("the certificate of --client-certificate has expired: renew it ({error})")
        }
        rustls::Error::AlertReceived(AlertDescription::UnknownCA) => {
            format!("it does not trust the authority of --client-certificate ({error})")
        }
        rustls::Error::InvalidMessage(_) => format!("it does not speak TLS on this port ({error})"),
        _ => format!("no connection by TLS: {error}"),
    })
}

/// So many seconds as days, or as hours if they are less than two.
fn days(seconds: u64) -> String {
    match seconds / 3_600 {
        hours @ ..48 => format!("{hours} hours"),
        hours => format!("{} days", hours / 24),
    }
}
