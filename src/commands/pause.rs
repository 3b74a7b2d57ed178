//! `onceward pause` and `onceward resume`: an operator's hand on the gates.

use std::time::Duration;

use clap::Args;
use sqlx::Connection as _;

use super::output::{self, OutputError};
use crate::clock;
use crate::config::{DatabaseArgs, duration};
use crate::domain::event::{Host, Target};
use crate::store::gates::{self, Scope};
use crate::store::{self, Database};
use crate::telemetry;

/// The longest entity, in bytes: that of a routing key (AMQP 0-9-1, short strings).
const LONGEST_ENTITY: usize = 255;
/// Who it was, where nobody says so.
const SOMEBODY: &str = "somebody";
/// The longest `--why`, in bytes.
const LONGEST_WHY: usize = 300;

/// What is paused or resumed.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct What {
    /// A host as `onceward status` shows it (HOST:PORT), a URL of it, or the name of a destination
    #[arg(value_name = "HOST|NAME", value_parser = host)]
    pub host: Option<Host>,
    /// One entity
    #[arg(long, value_name = "ENTITY", value_parser = entity)]
    pub entity: Option<String>,
    /// Everything
    #[arg(long)]
    pub all: bool,
}

impl What {
    fn scope(&self) -> Scope {
        match (&self.host, &self.entity) {
            (Some(host), _) => Scope::Host(host.clone()),
            (None, Some(entity)) => Scope::Entity(entity.as_str().into()),
            (None, None) => Scope::Everything,
        }
    }
}

/// The arguments of `onceward pause`.
#[derive(Clone, Debug, Args)]
pub struct PauseArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub what: What,
    /// When it ends by itself: a span such as 30min, or a time such as 2030-01-31T18:00:00Z [default: when it is resumed]
    #[arg(long, value_name = "TIME", value_parser = until)]
    pub until: Option<Duration>,
    /// Why, for the others
    #[arg(long, value_name = "TEXT", default_value = "no reason given", hide_default_value = true, value_parser = why)]
    pub why: String,
    /// Who, for the others
    #[arg(long, env = "USER", value_name = "NAME", default_value = SOMEBODY, hide_env_values = true, value_parser = by)]
    pub by: String,
}

/// The arguments of `onceward resume`.
#[derive(Clone, Debug, Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub database: DatabaseArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub what: What,
}

/// Why nothing was paused or resumed.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// The database failed.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// No worker has run here.
    #[error(
        "this database holds no Onceward yet, or one of an earlier version: `onceward worker` sets it up when it first starts"
    )]
    Empty,
    /// There are too many pauses.
    #[error("{} things are paused already: resume some, or use --all", gates::MOST_PAUSES)]
    TooMany,
    /// Nothing was paused.
    #[error("{0} is not paused, and no gate of it is shut")]
    NotPaused(String),
    /// The answer could not be written.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Pauses.
///
/// # Errors
/// Why not.
pub async fn pause(args: &PauseArgs) -> Result<(), PauseError> {
    let mut connection = Database::new(&args.database.database_url, "onceward pause")?.connect().await?;
    let scope = args.what.scope();
    let paused = gates::pauses(&mut connection).await.map_err(no_table)?;
    let is_full = i64::try_from(paused.len()).is_ok_and(|count| count >= gates::MOST_PAUSES);
    if is_full && scope != Scope::Everything && !paused.iter().any(|pause| scope.is_of(pause)) {
        return Err(PauseError::TooMany);
    }
    gates::pause(&mut connection, &scope, args.until, (&args.why, &args.by)).await?;
    let until = args.until.map_or_else(String::new, |span| {
        format!(" for {}", humantime::format_duration(Duration::from_secs(span.as_secs().max(1))))
    });
    let paused = format!("paused {}{until}: its events wait, in order, and spend no attempts", name(&scope));
    let told = output::line(paused);
    if let Scope::Host(host) = &scope
        && !gates::is_known(&mut connection, host).await?
    {
        let is_name = !host.as_str().contains(':');
        let hint =
            if is_name { " Without a port, it is the name of a destination; a host is written HOST:PORT." } else { "" };
        telemetry::tell(format_args!("No event goes to {host} now.{hint}"));
    }
    connection.close().await?;
    Ok(told?)
}

/// Resumes.
///
/// # Errors
/// Why not.
pub async fn resume(args: &ResumeArgs) -> Result<(), PauseError> {
    let mut connection = Database::new(&args.database.database_url, "onceward resume")?.connect().await?;
    let scope = args.what.scope();
    let resumed = gates::resume(&mut connection, &scope).await.map_err(no_table)?;
    let opened = match &scope {
        Scope::Host(host) => gates::open(&mut connection, host).await?,
        Scope::Entity(_) | Scope::Everything => false,
    };
    connection.close().await?;
    match resumed {
        Some((why, by)) => output::line(format_args!("resumed {}, which {by} had paused: {why}", name(&scope)))?,
        None if opened => output::line(format_args!("opened the gate of {}", name(&scope)))?,
        None => return Err(PauseError::NotPaused(name(&scope))),
    }
    Ok(())
}

fn name(scope: &Scope) -> String {
    match scope {
        Scope::Everything => "everything".into(),
        Scope::Host(host) => host.to_string(),
        Scope::Entity(entity) => format!("the entity {}", entity.as_str().escape_debug()),
    }
}

fn no_table(error: sqlx::Error) -> PauseError {
    if store::is_empty(&error) { PauseError::Empty } else { error.into() }
}

/// Reads a host, a URL, or the name of a destination.
fn host(text: &str) -> Result<Host, String> {
    if text.contains("://") || Target::is_name(text) {
        return crate::config::destination(text).map(|target| target.host());
    }
    let url = crate::config::destination(&format!("http://{text}/"));
    let has_port = text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match url {
        Ok(url) if has_port => Ok(url.host()),
        _ => Err("write HOST:PORT, a URL, or the name of a destination".into()),
    }
}

fn why(text: &str) -> Result<String, String> {
    match text.len() {
        1..=LONGEST_WHY if !text.contains(char::is_control) => Ok(text.into()),
        _ => Err(format!("write 1 to {LONGEST_WHY} bytes, in one line and without control characters")),
    }
}

/// Reads who it is. A variable that is empty is one that is not set.
fn by(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(SOMEBODY.into()) } else { why(text) }
}

/// Reads an entity: a routing key.
fn entity(text: &str) -> Result<String, String> {
    match text.len() {
        1..=LONGEST_ENTITY if !text.contains('\0') => Ok(text.into()),
        _ => Err(format!("an entity has 1 to {LONGEST_ENTITY} bytes")),
    }
}

/// Reads a span, or a time that has not come.
fn until(text: &str) -> Result<Duration, String> {
    if let Ok(span) = duration(text) {
        return if span.is_zero() { Err("write more than 0s".into()) } else { Ok(span) };
    }
    let write = "write a span such as 30min, or a time such as 2030-01-31T18:00:00Z";
    let at = humantime::parse_rfc3339_weak(text).map_err(|_| write.to_owned())?;
    let left = at.duration_since(clock::time_of_day()).ok().filter(|left| !left.is_zero());
    left.ok_or_else(|| format!("{text} has passed: {write}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_written_as_it_is_shown_or_as_a_url() {
        let table = [
            ("example.com:443", Some("example.com:443")),
            ("EXAMPLE.com:443", Some("example.com:443")),
            ("https://example.com/hooks", Some("example.com:443")),
            ("http://example.com:80/", Some("example.com:80")),
            ("[::1]:8080", Some("[::1]:8080")),
            ("billing", Some("billing")),
            ("example.com", Some("example.com")),
            ("Example.com", None),
            ("", None),
            ("a b:1", None),
            ("host:99999", None),
        ];
        for (text, expected) in table {
            assert_eq!(host(text).ok().as_ref().map(Host::as_str), expected, "{text:?}");
        }
    }

    #[test]
    fn who_and_why_are_one_line() {
        assert_eq!((by("").as_deref(), by("ada").as_deref()), (Ok("somebody"), Ok("ada")));
        for wrong in ["", "two\nlines", "\u{1b}[2J", &"x".repeat(LONGEST_WHY + 1)] {
            assert!(why(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_end_is_a_span_or_a_time_to_come() {
        assert_eq!(until("30min"), Ok(Duration::from_mins(30)));
        assert!(until("2100-01-31T18:00:00Z").is_ok());
        for wrong in ["0s", "2001-01-31T18:00:00Z", "soon", ""] {
            assert!(until(wrong).is_err(), "{wrong:?}");
        }
    }
}
