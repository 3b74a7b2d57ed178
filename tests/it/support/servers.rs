//! The servers that tests run on: shared ones from the environment, or private ones that a test may stop.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use url::Url;

use super::Certificates;

/// In a directory of private servers: by how many seconds the database's clock is ahead, as a number of 64 bits.
const CLOCK: &str = "clock";

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
    /// The first one's standby, or the other way round.
    SecondDatabase,
}

impl Which {
    /// Its name in the script.
    fn name(self) -> &'static str {
        match self {
            Self::Broker => "rabbitmq",
            Self::SecondNode => "rabbitmq-2",
            Self::Database => "postgres",
            Self::SecondDatabase => "postgres-2",
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
        Self::start_in(private_dir(), "start").await
    }

    /// The same, with a database whose clock can be set.
    pub async fn start_with_a_clock() -> Self {
        let dir = private_dir();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/set_clock.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]);
        let status = compiler.arg(dir.join("set_clock.so")).arg(source).status();
        let status = status.expect("a C compiler, as the tests' build needs one");
        assert!(status.success(), "{compiler:?}: {status}");
        std::fs::write(dir.join(CLOCK), 0_i64.to_ne_bytes()).expect("a file of ours");
        Self::start_in(dir, "start").await
    }

    /// The same, which speak TLS, too.
    pub async fn start_with_tls() -> Self {
        let dir = private_dir();
        let certificates = dir.join("certificates");
        std::fs::create_dir(&certificates).expect("a directory");
        Certificates::new_in(certificates);
        Self::start_in(dir, "start").await
    }

    /// The broker's URL with TLS, and the directory of the certificates: of servers that speak it.
    pub fn with_tls(&self) -> (Url, PathBuf) {
        let dir = self.private_dir();
        let env = std::fs::read_to_string(dir.join("env")).expect("the script writes the URLs there");
        let url = env.lines().find_map(|line| line.strip_prefix("export ONCEWARD_TEST_AMQPS_URL="));
        (url.expect("servers with TLS").parse().expect("a URL"), dir.join("certificates"))
    }

    /// The same, with a RabbitMQ of three nodes.
    pub async fn start_cluster() -> Self {
        Self::start_in(private_dir(), "start-cluster").await
    }

    async fn start_in(dir: PathBuf, command: &str) -> Self {
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

    /// Makes a database anew as the standby of the other one. From then on the other one's commits wait for it.
    pub async fn start_standby(&self, which: Which) {
        script(&[&format!("start-standby-{}", which.name())], self.private_dir()).await;
    }

    /// Lets a standby be the primary.
    pub async fn promote(&self, which: Which) {
        script(&[&format!("promote-{}", which.name())], self.private_dir()).await;
    }

    /// Where one of the two databases is.
    pub fn port_of(&self, which: Which) -> u16 {
        let ports = std::fs::read_to_string(self.private_dir().join("ports")).expect("the script writes them there");
        let name = format!("{}_PORT=", which.name().replace('-', "_"));
        let port = ports.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok());
        port.expect("a server with a port of its own")
    }

    /// Lets the database's clock be so many seconds ahead. It has to have one that can be set.
    pub fn set_database_clock(&self, ahead: i64) {
        let clock = File::options().write(true).open(self.private_dir().join(CLOCK)).expect("the database's clock");
        // In place: the database has the file in its memory.
        clock.write_all_at(&ahead.to_ne_bytes(), 0).expect("a file of ours");
    }

    /// Lets a server stand still, or go on.
    pub fn signal(&self, which: Which, name: &str) {
        let pid = std::fs::read_to_string(self.private_dir().join(format!("{}.pid", which.name())));
        let pid = pid.expect("a server that runs");
        let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.trim()).status();
        assert!(sent.expect("kill runs").success(), "SIG{name} to {which:?}");
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

/// A new directory for private servers.
fn private_dir() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let parent = std::env::var_os("ONCEWARD_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = parent.join(format!("onceward-private-{}-{count}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a directory for private servers");
    dir
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
