//! Jaeger itself shows an event's life. `ONCEWARD_TEST_JAEGER` is the path of the program (version 2); without it, what
//! [`crate::traces`] sees at a collector has to do.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::{DeadLetters, Load, Receiver, Reply, SOON, Worker, World, asking, test};

const CONFIGURATION: &str = r#"
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines: {traces: {receivers: [otlp], exporters: [jaeger_storage_exporter]}}
  telemetry: {metrics: {level: none}}
extensions:
  jaeger_query:
    storage: {traces: memory}
    enable_tracing: false
    http: {endpoint: "127.0.0.1:QUERY"}
    grpc: {endpoint: "127.0.0.1:OTHER"}
  jaeger_storage: {backends: {memory: {memory: {max_traces: 1000}}}}
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:OTLP"}}}}
exporters: {jaeger_storage_exporter: {trace_storage: memory}}
"#;

struct Jaeger {
    process: Child,
    otlp: u16,
    query: u16,
}

impl Jaeger {
    async fn start(world: &World, program: &str) -> Self {
        let [otlp, query, other] = [free_port().await, free_port().await, free_port().await];
        let ports = [("OTLP", otlp), ("QUERY", query), ("OTHER", other)];
        let text =
            ports.iter().fold(CONFIGURATION.to_owned(), |text, (name, port)| text.replace(name, &port.to_string()));
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-jaeger.yaml", world.name));
        std::fs::write(&file, text).expect("a file for Jaeger's configuration");
        let mut command = Command::new(program);
        command.arg("--config").arg(&file).stdin(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("Jaeger starts");
        let jaeger = Self { process, otlp, query };
        asking(SOON, "Jaeger", async || jaeger.get("/api/services").await).await;
        jaeger
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let response = reqwest::get(format!("http://127.0.0.1:{}{path}", self.query)).await.ok()?;
        serde_json::from_str(&response.text().await.ok()?).ok()
    }
}

impl Drop for Jaeger {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn free_port() -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    listener.local_addr().expect("a bound port").port()
}

fn names(trace: &Value) -> Vec<String> {
    let spans = trace["spans"].as_array().cloned().unwrap_or_default();
    let mut names: Vec<_> =
        spans.iter().map(|span| span["operationName"].as_str().unwrap_or_default().to_owned()).collect();
    names.sort_unstable();
    names
}

#[test]
fn jaeger_shows_an_events_life_as_one_tree() {
    let Ok(program) = std::env::var("ONCEWARD_TEST_JAEGER") else { return };
    test(Load::Shared, async |world| {
        let jaeger = Jaeger::start(world, &program).await;
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{}", jaeger.otlp)),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc".into()),
        ];
        let receiver = Receiver::new(|_| Reply::status(503)).await;
        let settings = ["worker", "--max-attempts=2", "--backoff-initial=200ms"];
        let worker = Worker::run_with(world, &settings, &environment);
        worker.wait_for_line(SOON, "ready: consuming").await;
        let dead_letters = DeadLetters::open(world).await;
        let url = receiver.url();
        let event = ["publish", "--entity=user-1", "--key=order-7", "--destination", &url, "--body={}"];
        let publish = Worker::run_with(world, &event, &environment);
        assert_eq!(publish.ends_by_itself(SOON).await, 0, "{}", publish.log());
        dead_letters.wait_for(SOON, 1).await;
        worker.stop().await;

        let wanted = ["POST", "POST", "process events", "send events", "send events.dead-letter", "wait for retry"];
        let seen = async || {
            let found = jaeger.get("/api/traces?service=onceward").await.unwrap_or_default();
            (names(&found["data"][0]) == wanted).then(|| found["data"][0].clone())
        };
        let trace = asking(SOON, "the whole trace", seen).await;
        let spans = trace["spans"].as_array().expect("spans");
        let roots = spans.iter().filter(|span| span["references"].as_array().is_none_or(Vec::is_empty)).count();
        assert_eq!(roots, 1, "{trace:#}");
        assert!(!trace.to_string().contains("invalid parent"), "every parent is there: {trace:#}");
    });
}
