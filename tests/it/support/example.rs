//! The programs of `deploy/examples`, run as a user runs them.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::{SOON, World, within};

/// A compiler may have a standard library to compile first.
const BUILT_WITHIN: Duration = Duration::from_mins(4);
const MISSING: &str = "the program is there; `deploy/servers install examples` installs what the examples need";

/// A program of the examples, that is started from their directory.
pub struct Example {
    command: Command,
}

impl Example {
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut path = vec![libraries().join("bin")];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let path = std::env::join_paths(path).expect("a PATH");
        // The program itself is looked for in this process's PATH.
        let mut candidates = std::env::split_paths(&path).map(|directory| directory.join(program.as_ref()));
        let found = candidates.find(|file| file.is_file());
        let mut command = Command::new(found.unwrap_or_else(|| program.as_ref().into()));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("ONCEWARD_") || ["TRACEPARENT", "DATABASE_URL"].contains(&name.as_str()) {
                command.env_remove(name);
            }
        }
        command.env("PATH", path).env("NODE_PATH", libraries().join("node_modules"));
        // Java reads its arguments in the encoding of the locale.
        command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).kill_on_drop(true);
        Self { command }.directory(".")
    }

    /// Whether this machine has such a program.
    pub fn is_installed(program: &str) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    }

    /// With the servers of a world.
    pub fn of(world: &World, program: impl AsRef<OsStr>) -> Self {
        Self::new(program).env("ONCEWARD_AMQP_URL", &world.amqp_url).env("DATABASE_URL", &world.database_url)
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    pub fn directory(mut self, directory: &str) -> Self {
        self.command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples").join(directory));
        self
    }

    /// Runs it to its end: its exit code, and what it said on standard error.
    pub async fn run(self) -> (Option<i32>, String) {
        self.run_within(SOON).await
    }

    async fn run_within(mut self, time: Duration) -> (Option<i32>, String) {
        let what = format!("the end of {:?}", self.command.as_std());
        let output = within(time, what, self.command.output()).await.expect(MISSING);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Runs a compiler, which has to be content and to warn of nothing.
    pub async fn build(self) {
        let shown = format!("{:?}", self.command.as_std());
        let (code, said) = self.run_within(BUILT_WITHIN).await;
        assert_eq!((code, said.as_str()), (Some(0), ""), "{shown}");
    }

    /// Starts it, for as long as what is returned lives.
    pub fn start(mut self) -> Child {
        self.command.spawn().expect(MISSING)
    }

    /// Starts a receiver: and its URL, which it tells in its first line. Its log of requests goes to a file.
    pub async fn start_receiver(mut self, world: &World) -> (Child, String) {
        let log = example_output("receiver").join(format!("{}.log", world.name));
        self.command.stdout(Stdio::piped()).stderr(File::create(&log).expect("a log file"));
        let mut child = self.command.spawn().expect(MISSING);
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let first = within(SOON, "the receiver's first line", lines.next_line()).await.expect("text");
        let first = first.unwrap_or_else(|| panic!("the receiver ended: {:?}", std::fs::read_to_string(log)));
        let url = first.strip_prefix("listening on ").unwrap_or_else(|| panic!("not an address: {first}")).to_owned();
        (child, url)
    }
}

/// Where `deploy/servers install examples` puts the libraries, and a Node where the system has none.
pub fn libraries() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    target.join("examples")
}

/// A directory for what a build makes of an example.
pub fn example_output(name: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("examples").join(name);
    std::fs::create_dir_all(&directory).expect("a directory for an example");
    directory
}
