//! The servers that tests run on: shared ones from the environment, or private ones that a test may stop.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use url::Url;

/// A RabbitMQ and a `PostgreSQL`.
pub struct Servers {
    /// The nodes of RabbitMQ; one, unless it is a cluster.
    pub amqp: Vec<Url>,
    pub management: Url,
    pub database: Url,
    /// Where private servers live; none for the shared ones.
    private: Option<PathBuf>,
}

/// How a server ends.
#[derive(Clone, Copy, Debug)]
pub enum Stop {
    /// It is asked to.
    Gently,
    /// It crashes.
    ByKill,
}

/// One of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Of a cluster, the first node.
    Broker,
    SecondNode,
    Database,
}

impl Which {
    /// Its name in the script.
    fn name(self) -> &'static str {
        match self {
            Self::Broker => "rabbitmq",
            Self::SecondNode => "rabbitmq-2",
            Self::Database => "postgres",
        }
    }
}

impl Servers {
    /// Those that `deploy/test` started, or was given.
    pub fn shared() -> Self {
        Self {
            amqp: vec![from_environment("ONCEWARD_AMQP_URL")],
            management: from_environment("ONCEWARD_RABBITMQ_MANAGEMENT_URL"),
            database: from_environment("ONCEWARD_DATABASE_URL"),
            private: None,
        }
    }

    /// Private ones, gone when dropped.
    pub async fn start() -> Self {
        Self::start_by("start").await
    }

    /// The same, with a RabbitMQ of three nodes.
    pub async fn start_cluster() -> Self {
        Self::start_by("start-cluster").await
    }

    async fn start_by(command: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let parent = std::env::var_os("ONCEWARD_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = parent.join(format!("onceward-private-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory for private servers");
        script(&[command], &dir).await;
        let env = std::fs::read_to_string(dir.join("env")).expect("the script writes the URLs there");
        let urls = |name: &str| -> Vec<Url> {
            let line = env.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
            line.expect(name).split(',').map(|url| url.parse().expect("a URL")).collect()
        };
        Self {
            amqp: urls("ONCEWARD_AMQP_URL"),
            management: urls("ONCEWARD_RABBITMQ_MANAGEMENT_URL").remove(0),
            database: urls("ONCEWARD_DATABASE_URL").remove(0),
            private: Some(dir),
        }
    }

    /// Stops one of the private servers.
    pub async fn stop(&self, which: Which, how: Stop) {
        let command = format!("stop-{}", which.name());
        match how {
            Stop::Gently => script(&[&command], self.private_dir()).await,
            Stop::ByKill => script(&[&command, "--kill"], self.private_dir()).await,
        }
    }

    /// Starts a private server that was stopped, on the same port and data.
    pub async fn start_again(&self, which: Which) {
        script(&[&format!("start-{}", which.name())], self.private_dir()).await;
    }

    /// Parts a node of the cluster from the other two; all three live on.
    pub async fn cut_off(&self, node: Which) {
        script(&[&format!("cut-off-{}", node.name())], self.private_dir()).await;
    }

    /// Lets a node that was cut off find the others again.
    pub async fn rejoin(&self, node: Which) {
        script(&[&format!("rejoin-{}", node.name())], self.private_dir()).await;
    }

    /// Waits until all nodes run, and every quorum queue has all its members.
    pub async fn until_whole(&self) {
        script(&["await-cluster"], self.private_dir()).await;
    }

    fn private_dir(&self) -> &Path {
        self.private.as_deref().expect("only private servers may be stopped")
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let Some(dir) = &self.private else { return };
        let stopped = Command::new(script_path()).args(["stop", "--kill"]).arg(dir).status();
        // After a failure the servers' logs are of use.
        if stopped.is_ok_and(|status| status.success()) && !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

async fn script(arguments: &[&str], dir: &Path) {
    let mut command = Command::new(script_path());
    command.args(arguments).arg(dir);
    let running = tokio::task::spawn_blocking(move || command.status());
    let status = running.await.expect("the wait for the script").expect("the script of the servers runs");
    assert!(status.success(), "{} {arguments:?} {}: {status}", script_path(), dir.display());
}

fn script_path() -> String {
    from_environment("ONCEWARD_TEST_SERVERS")
}

fn from_environment<T: std::str::FromStr>(name: &str) -> T {
    let value = std::env::var(name).ok().and_then(|text| text.parse().ok());
    value.unwrap_or_else(|| panic!("{name} is not set: the tests need servers, so run them by deploy/test"))
}
