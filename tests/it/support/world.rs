//! A virtual host and a database for one test.

use std::sync::atomic::{AtomicU32, Ordering};

use reqwest::{Client, Method, Response};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};
use url::Url;

use super::Servers;

/// What a test has to itself on the servers.
pub struct World {
    pub name: String,
    /// Of a cluster, the nodes' URLs with commas between.
    pub amqp_url: String,
    pub database_url: String,
    management: Url,
    admin_url: String,
}

impl World {
    pub async fn new(servers: &Servers) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}_{}_{count}", test_name(), std::process::id());
        let world = Self {
            amqp_url: servers.amqp.iter().map(|url| with_path(url, &name)).collect::<Vec<_>>().join(","),
            database_url: with_path(&servers.database, &name),
            management: servers.management.clone(),
            admin_url: servers.database.to_string(),
            name,
        };
        let user = percent_encoding::percent_decode_str(servers.amqp[0].username()).decode_utf8_lossy().into_owned();
        world.manage(Method::PUT, &format!("api/vhosts/{}", world.name), "{}").await;
        let permissions = format!("api/permissions/{}/{user}", world.name);
        world.manage(Method::PUT, &permissions, r#"{"configure":".*","write":".*","read":".*"}"#).await;
        world.administer(format!("create database \"{}\"", world.name)).await;
        world
    }

    /// Another user of the broker, who may do everything here: the worker's URL. The server keeps it.
    pub async fn amqp_url_of(&self, user: &str) -> String {
        self.amqp_url_with(user, r#"{"configure":".*","write":".*","read":".*"}"#).await
    }

    /// Another user of the broker with these permissions.
    pub async fn amqp_url_with(&self, user: &str, may: &'static str) -> String {
        self.manage(Method::PUT, &format!("api/users/{user}"), r#"{"password":"secret","tags":""}"#).await;
        let permissions = format!("api/permissions/{}/{user}", self.name);
        self.manage(Method::PUT, &permissions, may).await;
        let mut url = Url::parse(&self.amqp_url).expect("one URL");
        url.set_username(user).and_then(|()| url.set_password(Some("secret"))).expect("a URL with a host");
        url.into()
    }

    /// A user of the broker by certificate alone, who may do everything here. The server keeps it.
    pub async fn know_by_certificate(&self, user: &str) {
        self.manage(Method::PUT, &format!("api/users/{user}"), r#"{"password_hash":"","tags":""}"#).await;
        let permissions = format!("api/permissions/{}/{user}", self.name);
        self.manage(Method::PUT, &permissions, r#"{"configure":".*","write":".*","read":".*"}"#).await;
    }

    /// Deletes an exchange, as an administrator may.
    pub async fn delete_exchange(&self, name: &str) {
        self.manage(Method::DELETE, &format!("api/exchanges/{}/{name}", self.name), "").await;
    }

    /// Deletes queues, as an administrator may.
    pub async fn delete_queues(&self, names: &[&str]) {
        for name in names {
            self.manage(Method::DELETE, &format!("api/queues/{}/{name}", self.name), "").await;
        }
    }

    /// Does what a `rabbitmqctl set_policy` in a line of a log would do: its words are in ' and '.
    pub async fn set_policy(&self, line: &str) {
        let words: Vec<_> = line.split('\'').collect();
        let (pattern, definition) = (words[3], words[5]);
        assert_eq!(words[1], self.name, "the virtual host of {line}");
        let (pattern, definition) = (pattern.replace("\\\\", "\\"), definition.replace("\\\"", "\""));
        let definition: serde_json::Value = serde_json::from_str(&definition).expect(line);
        let policy = serde_json::json!({ "pattern": pattern, "definition": definition, "apply-to": "queues" });
        self.manage(Method::PUT, &format!("api/policies/{}/onceward", self.name), policy.to_string()).await;
    }

    /// After a success: a failed test leaves its world to be looked at.
    pub async fn remove(self) {
        self.manage(Method::DELETE, &format!("api/vhosts/{}", self.name), "").await;
        self.administer(format!("drop database \"{}\" with (force)", self.name)).await;
    }

    /// What the broker's management API says.
    pub async fn ask(&self, path: &str) -> serde_json::Value {
        let answer = self.manage(Method::GET, path, "").await;
        serde_json::from_str(&answer.text().await.expect("an answer")).expect("JSON")
    }

    /// The first two numbers of the broker's version.
    pub async fn broker_release(&self) -> (u32, u32) {
        let overview = self.ask("api/overview").await;
        let version = overview["rabbitmq_version"].as_str().expect("a version").to_owned();
        let mut numbers = version.split('.').map(|number| number.parse().expect("a number"));
        (numbers.next().expect("a major version"), numbers.next().expect("a minor version"))
    }

    async fn manage(&self, method: Method, path: &str, body: impl Into<String>) -> Response {
        // The client asks for TLS's provider even where there is no TLS.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().build().expect("an HTTP client");
        let url = self.management.join(path).expect("a path");
        let request = client.request(method, url).header("content-type", "application/json").body(body.into());
        let answer = request.send().await.expect("the broker's management API answers");
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer
    }

    async fn administer(&self, sql: String) {
        let mut connection = PgConnection::connect(&self.admin_url).await.expect("the database answers");
        connection.execute(AssertSqlSafe(sql.clone())).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// The servers' own name for a virtual host or a database.
fn with_path(url: &Url, name: &str) -> String {
    let mut url = url.clone();
    url.set_path(name);
    url.into()
}

/// The test's name, short enough for a database: the test's thread bears it.
fn test_name() -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("main").rsplit("::").next().unwrap_or("main");
    name.chars().take(40).collect()
}
