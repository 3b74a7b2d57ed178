//! The servers that are measured, as `deploy/servers` has started them, and what they and the machine are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use onceward::config::SecretUrl;
use onceward::store::Database;
use procfs::{CpuInfo, Current as _, Meminfo};
use reqwest::{Client, Method};
use serde::Serialize;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};
use url::Url;

use super::Fallible;
use super::cpu;

/// The servers do nothing more if they take less of a core than this.
const CALM: f64 = 0.06;
/// How long they may take to get there.
const CALM_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A RabbitMQ and a `PostgreSQL` of our own.
pub struct Servers {
    pub dir: PathBuf,
    pub amqp: Url,
    pub management: Url,
    pub database: Url,
    /// The node's `beam.smp`.
    pub broker_pid: i32,
    /// The postmaster.
    pub database_pid: i32,
}

/// What the figures hold for.
#[derive(Serialize)]
pub struct Machine {
    pub processor: String,
    pub cores: usize,
    pub memory_gib: f64,
    pub kernel: String,
    pub rabbitmq: String,
    pub postgresql: String,
    pub onceward: &'static str,
}

impl Servers {
    /// Reads what the script has left in the directory.
    pub fn read(dir: &Path) -> Fallible<Self> {
        let read = |name: &str| {
            let path = dir.join(name);
            std::fs::read_to_string(&path)
                .map_err(|error| format!("{}: {error}; run this by deploy/bench", path.display()))
        };
        let env = read("env")?;
        let url = |name: &str| -> Fallible<Url> {
            let line = env.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
            Ok(line.ok_or_else(|| format!("{name} is missing in {}/env", dir.display()))?.parse()?)
        };
        Ok(Self {
            dir: dir.into(),
            amqp: url("ONCEWARD_AMQP_URL")?,
            management: url("ONCEWARD_RABBITMQ_MANAGEMENT_URL")?,
            database: url("ONCEWARD_DATABASE_URL")?,
            broker_pid: read("rabbitmq.pid")?.trim().parse()?,
            database_pid: read("postgres.pid")?.trim().parse()?,
        })
    }

    /// What is measured here. A database that does not keep what it has committed is not measured.
    pub async fn machine(&self) -> Fallible<Machine> {
        for setting in ["fsync", "synchronous_commit", "full_page_writes"] {
            let value = self.query(&format!("show {setting}")).await?;
            if value != "on" {
                return Err(
                    format!("PostgreSQL has {setting} = {value}: figures without it would be worth nothing").into()
                );
            }
        }
        let overview: serde_json::Value = serde_json::from_str(&self.manage(Method::GET, "api/overview", "").await?)?;
        let version = |name: &str| overview[name].as_str().unwrap_or("unknown").to_owned();
        let cpus = CpuInfo::current()?;
        Ok(Machine {
            processor: cpus.model_name(0).unwrap_or("unknown").into(),
            cores: cpus.num_cores(),
            memory_gib: Meminfo::current()?.mem_total as f64 / f64::from(1 << 30),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().into(),
            rabbitmq: format!("{} (Erlang {})", version("rabbitmq_version"), version("erlang_version")),
            postgresql: self.query("show server_version").await?,
            onceward: env!("CARGO_PKG_VERSION"),
        })
    }

    /// Asks the broker's management API.
    pub async fn manage(&self, method: Method, path: &str, body: &'static str) -> Fallible<String> {
        let client = Client::builder().no_proxy().build()?;
        let request = client.request(method, self.management.join(path)?).header("content-type", "application/json");
        let answer = request.body(body).send().await?;
        if !answer.status().is_success() {
            return Err(format!("the broker's management API answers {} to {path}", answer.status()).into());
        }
        Ok(answer.text().await?)
    }

    /// One statement on the server's own database.
    pub async fn administer(&self, sql: &str) -> Fallible<()> {
        execute(self.database.as_str(), sql).await
    }

    async fn query(&self, sql: &str) -> Fallible<String> {
        let mut connection = Database::new(&self.database.as_str().parse()?, "onceward bench")?.connect().await?;
        let row = connection.fetch_one(AssertSqlSafe(sql.to_owned())).await?;
        Ok(row.try_get(0)?)
    }

    /// Waits until the servers have done what they do after a load: write segments, vacuum, forget a virtual host.
    pub async fn until_calm(&self) -> Fallible<()> {
        let mut waited = Duration::ZERO;
        let mut before = cpu::of_servers(self)?;
        while waited < CALM_WITHIN {
            tokio::time::sleep(LOOK_EVERY).await;
            waited += LOOK_EVERY;
            let now = cpu::of_servers(self)?;
            if now - before < CALM * LOOK_EVERY.as_secs_f64() {
                return Ok(());
            }
            before = now;
        }
        Ok(())
    }
}

/// One statement, however long it takes.
pub async fn execute(url: &str, sql: &str) -> Fallible<()> {
    let url: SecretUrl = url.parse()?;
    let mut connection = Database::new(&url, "onceward bench")?.connect().await?;
    connection.execute(AssertSqlSafe(sql.to_owned())).await.map_err(|error| format!("{sql}: {error}"))?;
    connection.close().await?;
    Ok(())
}
