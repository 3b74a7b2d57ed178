//! A pgbouncer in front of the database, on a socket of its own.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use url::Url;

use super::{SOON, World, asking};

const MISSING: &str = "pgbouncer is there; `deploy/servers install pgbouncer` installs it";

/// Debian installs it where not every user's PATH leads.
const DEBIANS: &str = "/usr/sbin/pgbouncer";
const CONFIGURATION: &str = "pgbouncer.ini";
const SOCKET: &str = ".s.PGSQL.6432";

/// The pooler; gone when dropped.
pub struct Pooler {
    process: Child,
    directory: PathBuf,
    database: String,
}

impl Pooler {
    /// With pgbouncer's defaults, but for this mode.
    pub async fn start(world: &World, mode: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Short, as the path of a socket has to be.
        let name = format!("pgbouncer-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("a directory for pgbouncer");
        std::fs::set_permissions(&directory, Permissions::from_mode(0o777)).expect("a directory of ours");
        let url = Url::parse(&world.database_url).expect("a URL");
        std::fs::write(directory.join(CONFIGURATION), text(&url, mode, &directory))
            .expect("the configuration is written");
        let database = url.path().trim_start_matches('/').to_owned();
        let pooler = Self { process: spawn(&directory), directory, database };
        pooler.listens().await;
        pooler
    }

    /// It is killed, and started again.
    pub async fn restart(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        // What a killed one leaves.
        for left in [SOCKET, &format!("{SOCKET}.lock")] {
            let _ = std::fs::remove_file(self.directory.join(left));
        }
        self.process = spawn(&self.directory);
        self.listens().await;
    }

    async fn listens(&self) {
        let listens = async || self.directory.join(SOCKET).exists().then_some(());
        asking(SOON, "pgbouncer's socket", listens).await;
    }

    /// The database's URL through it.
    pub fn url(&self, more: &str) -> String {
        format!("postgres:///{}?host={}&port=6432&user=postgres{more}", self.database, self.directory.display())
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            eprintln!("--- pgbouncer's log\n{log}\n---");
        } else {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

fn text(url: &Url, mode: &str, directory: &Path) -> String {
    let (host, port, user) = (url.host_str().expect("a host"), url.port().unwrap_or(5_432), url.username());
    let password = url.password().map_or_else(String::new, |password| format!(" password={password}"));
    format!(
        "[databases]\n* = host={host} port={port} user={user}{password}\n[pgbouncer]\nlisten_addr =\n\
         unix_socket_dir = {}\nauth_type = any\npool_mode = {mode}\n",
        directory.display()
    )
}

fn spawn(directory: &Path) -> Child {
    let mut command = Command::new(if Path::new(DEBIANS).exists() { DEBIANS } else { "pgbouncer" });
    if rustix::process::getuid().is_root() {
        command.args(["-u", "postgres"]);
    }
    let log = File::options().create(true).append(true).open(directory.join("log")).expect("a log file");
    command.arg(directory.join(CONFIGURATION)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().expect(MISSING)
}
