//! Postgres: the truth. Queries are free functions over a connection, by what they are about.

pub mod admit;
pub mod audit;
pub mod census;
pub mod cluster;
pub mod commits;
pub mod floor;
pub mod gates;
pub mod line;
pub mod listener;
pub mod members;
pub mod opening;
pub mod operator;
pub mod outbox;
pub mod position;
pub mod progress;
pub mod retention;
pub mod server;
pub mod session;
pub mod sql;
pub mod status;
pub mod stray;

use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use self::server::LeaseServer;
use crate::config::{SecretUrl, tls};

/// Reads beside the writer and the leases: sweeps, dead letters.
const POOL_SIZE: u32 = 4;
/// How long a read waits for a connection.
const ACQUIRE_WITHIN: Duration = Duration::from_secs(5);
/// How long a server may take to let us in.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection may take to come back to the pool: one whose server is gone without a word never would.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);
/// After this time the server gives up a statement of the pool's. Whoever waits for it gives up a little later
/// ([`transaction`](crate::telemetry::transaction)).
const LONGEST_READ: Duration = Duration::from_secs(30);

/// A connection that was cut leaves its transaction to the server, which has to give it up: it holds locks.
const ABANDONED_AFTER: Duration = Duration::from_secs(10);

/// What a session sets for itself, whatever server, database and role have: for a worker with leases of this length, abandoned
/// transactions end well before them, or the next owner could not take its partitions.
fn settings(lease: Duration) -> Vec<(&'static str, String)> {
    let abandoned = (lease * 2 / 3).min(ABANDONED_AFTER).as_millis().to_string();
    vec![
        ("idle_in_transaction_session_timeout", abandoned.clone()),
        ("tcp_user_timeout", abandoned),
        // Statements look at what others have committed while they waited for a lock.
        ("default_transaction_isolation", "read committed".to_owned()),
    ]
}

/// A commit that is answered is on the disk: events are acknowledged by it.
const DURABLE: &str = "select set_config('synchronous_commit', 'on', false) \
                       where current_setting('synchronous_commit') in ('off', 'local')";

/// What is given up here has to end there, too, or a server that takes long would gather more and more of it. Whoever has
/// set a limit keeps it. A commit that waits for a standby is not ended by this.
const LIMIT: &str =
    "select set_config('statement_timeout', $1, false) where current_setting('statement_timeout') = '0'";

/// Where the database is.
#[derive(Clone, Debug)]
pub struct Database {
    options: PgConnectOptions,
    /// Made by a statement of its own: poolers refuse most settings in the start of a session.
    settings: Vec<(&'static str, String)>,
    /// How long a statement may take, if that is limited.
    longest: Option<Duration>,
    leases: Arc<LeaseServer>,
}

impl Database {
    /// Reads the URL.
    ///
    /// # Errors
    /// sqlx's, for a URL that it can't read.
    pub fn new(url: &SecretUrl, name: &str) -> Result<Self, sqlx::Error> {
        let options = PgConnectOptions::from_str(url.reveal())?.application_name(name).disable_statement_logging();
        let settings = settings(ABANDONED_AFTER * 2);
        Ok(Self { options: options.extra_float_digits(None), settings, longest: None, leases: Arc::default() })
    }

    /// For a worker with leases of this length.
    #[must_use]
    pub fn give_up_within(self, lease: Duration) -> Self {
        Self { settings: settings(lease), ..self }
    }

    /// Its sessions give a statement so much time.
    #[must_use]
    pub fn limited_to(&self, longest: Duration) -> Self {
        Self { longest: Some(longest), ..self.clone() }
    }

    /// Where the leases of the worker are whose database this is.
    #[must_use]
    pub fn leases(&self) -> &Arc<LeaseServer> {
        &self.leases
    }

    /// For statements that touch a few rows of large tables, again and again.
    ///
    /// They are planned once, and by index: a plan that was made while a table was almost empty would read the whole of it
    /// with every statement, and also what was deleted and is not vacuumed yet.
    #[must_use]
    pub fn by_index(&self) -> Self {
        let mut by_index = self.clone();
        by_index.settings.push(("plan_cache_mode", "force_generic_plan".to_owned()));
        by_index.settings.push(("enable_seqscan", "off".to_owned()));
        by_index
    }

    /// A connection of one's own.
    ///
    /// # Errors
    /// sqlx's, if the server can't be reached.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let connecting = async {
            let mut connection = self.options.connect().await?;
            self.set(&mut connection).await?;
            Ok(connection)
        };
        let late = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
        tokio::time::timeout(CONNECT_WITHIN, connecting).await.map_err(late)?
    }

    /// A small pool that connects when it is first used. What leads to another server than the leases' is left, and so is
    /// what does not answer.
    #[must_use]
    pub fn pool(&self) -> PgPool {
        let database = Arc::new(self.limited_to(LONGEST_READ));
        let leases = self.leases.clone();
        let options = PgPoolOptions::new().max_connections(POOL_SIZE).acquire_timeout(ACQUIRE_WITHIN);
        let options = options.after_connect(move |connection, _| {
            let database = database.clone();
            Box::pin(async move { database.set(connection).await })
        });
        // In place of the pool's own look whether there is an answer.
        let options = options.test_before_acquire(false).before_acquire(move |connection, _| {
            let leases = leases.clone();
            Box::pin(async move {
                let is_theirs = leases.is(server::of(connection).await?);
                if !is_theirs {
                    leases.doubt();
                }
                Ok(is_theirs)
            })
        });
        let options = options.after_release(|connection, _| {
            Box::pin(async move { Ok(tokio::time::timeout(RELEASE_WITHIN, connection.ping()).await.is_ok()) })
        });
        options.connect_lazy_with(self.options.clone())
    }

    async fn set(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let settings = self.settings.iter().map(|(name, value)| (*name, value.as_str()));
        let (names, values): (Vec<&str>, Vec<&str>) = settings.unzip();
        sqlx::query(
            "select set_config(name, value, false) from unnest($1::text[], $2::text[]) as setting (name, value)",
        )
        .persistent(false)
        .bind(names)
        .bind(values)
        .execute(&mut *connection)
        .await?;
        if let Some(longest) = self.longest {
            let limit = sqlx::query(LIMIT).persistent(false).bind(longest.as_millis().to_string());
            limit.execute(&mut *connection).await?;
        }
        connection.execute(DURABLE).await.map(drop)
    }
}

/// The migrations that this program knows. One that it doesn't know is from a newer program, and no hindrance: a worker
/// that is restarted in the middle of a rolling update has to come up. Migrations only add; one that doesn't says so in
/// the table `cluster`, where [`cluster::join`] looks.
fn migrations() -> Migrator {
    let mut migrator = sqlx::migrate!("src/store/migrations");
    migrator.set_ignore_missing(true);
    migrator
}

/// Brings the schema up to date; safe to run by several workers at once.
///
/// # Errors
/// sqlx's; a migration that was changed after it had been applied is one of them.
pub async fn migrate(connection: &mut PgConnection) -> Result<(), sqlx::migrate::MigrateError> {
    migrations().run(connection).await
}

/// What keeps the database from answering, for people: "the database …".
#[must_use]
pub fn cause(error: &sqlx::Error) -> String {
    let sqlx::Error::Database(told) = error else {
        return match error {
            sqlx::Error::PoolTimedOut => "the database is unreachable (no connection in time)".into(),
            sqlx::Error::Tls(told) if told.to_string().contains("does not support TLS") => {
                "the database speaks no TLS, and --ca-file or its URL asks for it: write sslmode=disable to do without"
                    .into()
            }
            sqlx::Error::Io(io) => {
                let told = tls::explain(io).unwrap_or_else(|| error.to_string());
                format!("the database is unreachable ({told})")
            }
            _ => format!("the database is unreachable ({error})"),
        };
    };
    // PostgreSQL, Appendix A.
    let code = told.code().unwrap_or_default();
    let what = match &*code {
        "25006" => "is read-only: a standby, or set so; --database-url has to lead to the primary",
        "25P03" => "ends transactions that pause (idle_in_transaction_session_timeout)",
        "53100" => "has no room left on its disk",
        "53200" => "is short of memory",
        "53300" => "has no connections left",
        "55P03" | "57014" => "gave a statement less time than it took (lock_timeout or statement_timeout)",
        "57P01" | "57P02" | "57P03" => "is stopping or starting",
        code if code.starts_with("08") => "is unreachable",
        code if code.starts_with("40") => "asks for a transaction to be run again",
        code if code.starts_with("53") || code.starts_with("58") => "is short of something, or its system fails",
        _ => "refuses a statement",
    };
    format!("the database {what} ({}, SQLSTATE {code})", told.message())
}

/// Whether an error says that the server is unreachable, restarting or short of something: worth trying again. Other errors
/// are mistakes of this program.
#[must_use]
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        // PostgreSQL, Appendix A: connection, read-only transaction, rollback, resources, operator, system.
        sqlx::Error::Database(error) if is_a_poolers_no(error.message()) => false,
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| ["08", "25", "40", "53", "57", "58", "55"].iter().any(|class| code.starts_with(class))),
        _ => false,
    }
}

/// Whether a pooler has refused what it will always refuse. pgbouncer gives most of its errors the class of lost connections.
fn is_a_poolers_no(message: &str) -> bool {
    ["unsupported startup parameter", "no such user", "no such database"].iter().any(|no| message.contains(no))
}

/// The encoding of the database's texts.
///
/// # Errors
/// sqlx's.
pub async fn encoding(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    sqlx::query_scalar("select current_setting('server_encoding')").fetch_one(connection).await
}

/// What is wrong if [`session::is_kept`] says no.
pub const NO_SESSIONS: &str = "a pooler in front of the database gives each transaction another session, and Onceward needs \
    sessions of its own: set `pool_mode = session` there, or let --database-url name the server itself";

/// Whether a table is not there: no worker has set the database up yet.
#[must_use]
pub fn is_empty(error: &sqlx::Error) -> bool {
    // PostgreSQL, Appendix A: undefined_table.
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| code == "42P01")
}

/// What the database refuses, and what a person can do about it.
#[must_use]
pub fn explain(error: &sqlx::Error) -> String {
    let sqlx::Error::Database(refusal) = error else {
        return match error {
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) => cause(error),
            _ => format!("the database: {error}"),
        };
    };
    if is_a_poolers_no(refusal.message()) {
        return format!(
            "a pooler in front of the database refuses --database-url ({}): it has to know user and database, and takes \
             parameters such as `options` only if its ignore_startup_parameters names them (`alter role USER set …` does \
             the same as `options`)",
            refusal.message()
        );
    }
    // PostgreSQL, Appendix A.
    match refusal.code().as_deref() {
        Some("26000" | "42P05") => format!("{} ({})", NO_SESSIONS, refusal.message()),
        Some("28000") if refusal.message().contains("client certificate") => format!(
            "the database wants a client certificate, whose name is that of the user of --database-url: \
             --client-certificate and --client-key ({})",
            refusal.message()
        ),
        Some("28P01" | "28000") => format!(
            "the database refuses the user of --database-url ({}): check its name and password; characters such as \
             @, :, /, # and % have to be percent-encoded in a URL",
            refusal.message()
        ),
        Some("3D000") => {
            format!(
                "the database of --database-url is not there ({}): create it, with encoding UTF8",
                refusal.message()
            )
        }
        Some("42501") => format!(
            "the user of --database-url may not do what is needed ({}): it has to own the tables, or to set them up itself: \
             `grant create on schema public to USER`",
            refusal.message()
        ),
        code => {
            format!("the database refused a statement ({}, SQLSTATE {})", refusal.message(), code.unwrap_or("unknown"))
        }
    }
}
