//! A virtual host and a database for one measurement, so that none is in another's way.

use std::sync::atomic::{AtomicU32, Ordering};

use onceward::broker::topology::{self, Names};
use onceward::broker::{self, Heartbeat};
use onceward::config::SecretUrl;
use onceward::store::{self, Database};
use reqwest::Method;
use url::Url;

use super::servers::{Servers, execute};
use super::{Bench, Fallible};

/// What a measurement has to itself on the servers.
pub struct World<'a> {
    servers: &'a Servers,
    vhost: String,
    database: String,
    /// A database that is used by several measurements is removed by whoever made it.
    removes_database: bool,
    pub partitions: u16,
    pub amqp_url: SecretUrl,
    pub database_url: SecretUrl,
}

impl<'a> World<'a> {
    /// New, with the worker's schema and topology.
    pub async fn new(bench: &'a Bench) -> Fallible<Self> {
        let name = name();
        create_database(&bench.servers, &name).await?;
        let world = Self::on(bench, &name).await?;
        Ok(Self { removes_database: true, ..world })
    }

    /// With a database that is there already.
    pub async fn on(bench: &'a Bench, database: &str) -> Fallible<Self> {
        let (servers, partitions) = (&bench.servers, bench.settings.partitions);
        let vhost = name();
        servers.manage(Method::PUT, &format!("api/vhosts/{vhost}"), "{}").await?;
        let permissions = format!("api/permissions/{vhost}/{}", servers.amqp.username());
        servers.manage(Method::PUT, &permissions, r#"{"configure":".*","write":".*","read":".*"}"#).await?;
        let world = Self {
            servers,
            amqp_url: with_path(&servers.amqp, &vhost).parse()?,
            database_url: with_path(&servers.database, database).parse()?,
            vhost,
            database: database.into(),
            removes_database: false,
            partitions,
        };
        let connection = broker::connect(&world.amqp_url, "onceward bench", Heartbeat::default()).await?;
        topology::declare(&connection, &Names::new("events"), partitions).await?;
        broker::close(&connection, "declared").await;
        Ok(world)
    }

    /// Lets the servers finish what the preparations have left to do.
    pub async fn settle(&self) -> Fallible<()> {
        execute(self.database_url.reveal(), "checkpoint").await?;
        self.servers.until_calm().await
    }

    pub async fn remove(self) -> Fallible<()> {
        self.servers.manage(Method::DELETE, &format!("api/vhosts/{}", self.vhost), "").await?;
        if self.removes_database {
            drop_database(self.servers, &self.database).await?;
        }
        Ok(())
    }
}

/// A database with the worker's schema.
pub async fn create_database(servers: &Servers, name: &str) -> Fallible<()> {
    servers.administer(&format!("create database \"{name}\"")).await?;
    let url: SecretUrl = with_path(&servers.database, name).parse()?;
    let mut connection = Database::new(&url, "onceward bench")?.connect().await?;
    Ok(store::migrate(&mut connection).await?)
}

pub async fn drop_database(servers: &Servers, name: &str) -> Fallible<()> {
    servers.administer(&format!("drop database \"{name}\" with (force)")).await
}

/// The servers' own name for a virtual host or a database.
pub fn with_path(url: &Url, name: &str) -> String {
    let mut url = url.clone();
    url.set_path(name);
    url.into()
}

/// One that nothing else has.
pub fn name() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("bench_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}
