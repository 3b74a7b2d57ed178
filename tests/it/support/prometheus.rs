//! A real Prometheus, which scrapes what a test runs.

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::{SOON, asking};

const MISSING: &str = "Prometheus is there; `deploy/servers install prometheus` installs it";

/// Runs promtool: whether it is content, and all that it printed.
pub fn promtool(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("promtool").args(arguments).stdin(Stdio::null()).output().expect(MISSING);
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), text)
}

/// The server; gone when dropped.
pub struct Prometheus {
    process: Child,
    directory: PathBuf,
    url: String,
}

impl Prometheus {
    /// Scrapes the job `onceward` at these addresses every second, and watches the rules of a file.
    pub async fn start(targets: &[&str], rules: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("prometheus-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&directory).expect("a directory for Prometheus");
        let config = directory.join("prometheus.yml");
        std::fs::write(&config, configuration(targets, rules)).expect("the configuration is written");
        let log = File::create(directory.join("log")).expect("a log file");
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect(MISSING);
        let mut prometheus = Self { process, directory, url: String::new() };
        prometheus.url = asking(SOON, "Prometheus' port", async || prometheus.told_url()).await;
        prometheus
    }

    /// Its URL, which it tells in its log; none as long as it is not ready.
    fn told_url(&self) -> Option<String> {
        let log = self.log();
        let (_, address) = log.lines().find_map(|line| line.split_once("msg=\"Listening on\" address="))?;
        let is_ready = log.contains("Server is ready to receive web requests");
        is_ready.then(|| format!("http://{}", address.trim()))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// The data that its API answers with, or the error.
    pub async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let mut url = url::Url::parse(&self.url).and_then(|url| url.join(path)).expect("a path");
        url.query_pairs_mut().extend_pairs(parameters);
        let client = reqwest::Client::builder().no_proxy().build().expect("an HTTP client");
        let response = client.get(url).send().await.expect("Prometheus answers");
        let text = response.text().await.expect("text");
        let mut answer: Value = serde_json::from_str(&text).expect("JSON");
        if answer["status"] == "success" { Ok(answer["data"].take()) } else { Err(answer["error"].to_string()) }
    }

    /// What an expression is now: its series.
    pub async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let mut data = self.ask("/api/v1/query", &[("query", expression)]).await?;
        match data["result"].take() {
            Value::Array(series) => Ok(series),
            other => Err(format!("no series, but {other}")),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            eprintln!("--- the end of Prometheus' log\n{}\n---", lines[lines.len().saturating_sub(10)..].join("\n"));
        } else {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

fn configuration(targets: &[&str], rules: &Path) -> String {
    let mut text = String::from("global: {scrape_interval: 1s, evaluation_interval: 1s}\n");
    let _ = writeln!(text, "rule_files: [{:?}]", rules.display().to_string());
    let _ = writeln!(text, "scrape_configs: [{{job_name: onceward, static_configs: [{{targets: {targets:?}}}]}}]");
    text
}
