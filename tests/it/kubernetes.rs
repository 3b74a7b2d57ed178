//! The manifests of `deploy/kubernetes` say what the program says: names, ports, paths, times and rules.
//!
//! Whether Kubernetes and the operators would take them, `deploy/kubernetes/validate` finds out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Parser as _;
use onceward::broker::topology::Names;
use onceward::cli::{self, Cli};
use onceward::config::{AdminListen, WorkerArgs};
use onceward::domain::event::Partition;
use onceward::domain::lifecycle::State;
use serde_json::{Value, json};

/// What a worker needs between the end of its drain and its own: its last spans leave.
const AFTER_THE_DRAIN: Duration = Duration::from_secs(10);
/// Words of queries that no worker shows: `PromQL`'s own, and what Prometheus adds to what it scrapes.
const PROMQL: [&str; 2] = ["sum", "namespace"];

/// A file of the manifests: its path, its text, and the documents in it.
struct File {
    path: PathBuf,
    text: String,
    documents: Vec<Value>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn parse(path: &Path, text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All YAML files of the manifests.
fn files() -> Vec<File> {
    let mut paths = Vec::new();
    collect(&root().join("deploy/kubernetes"), &mut paths);
    assert!(paths.len() >= 15, "the manifests were not found: {paths:?}");
    let read = |path: PathBuf| {
        let text = read(&path);
        File { documents: parse(&path, &text), path, text }
    };
    paths.into_iter().map(read).collect()
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory of manifests") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            paths.push(path);
        }
    }
}

/// All documents of a kind, patches among them.
fn of_kind(kind: &str) -> Vec<Value> {
    let documents: Vec<_> = files().into_iter().flat_map(|file| file.documents).collect();
    let found: Vec<_> = documents.into_iter().filter(|document| document["kind"] == kind).collect();
    assert!(!found.is_empty(), "no manifest is of the kind {kind}");
    found
}

fn only(kind: &str, path: &str) -> Value {
    let path = root().join("deploy/kubernetes").join(path);
    let mut found: Vec<_> = parse(&path, &read(&path)).into_iter().filter(|found| found["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{}: {kind}", path.display());
    found.remove(0)
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer} in {value:#}"))
}

fn deployment() -> Value {
    only("Deployment", "base/deployment.yaml")
}

/// Every value at a key, at any depth.
fn at_key<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(key));
            fields.values().for_each(|value| at_key(value, key, found));
        }
        Value::Array(items) => items.iter().for_each(|value| at_key(value, key, found)),
        _ => {}
    }
}

/// The settings of a worker with these flags beside the ones that it needs.
fn worker_with(flags: &[&str]) -> WorkerArgs {
    let needed = ["onceward", "worker", "--database-url=postgres://host/db"];
    match Cli::try_parse_from(needed.iter().chain(flags)).expect("settings that make sense").command {
        cli::Command::Worker(args) => *args,
        other => panic!("not the worker: {other:?}"),
    }
}

fn defaults() -> WorkerArgs {
    worker_with(&["--amqp-url=amqp://host"])
}

/// Words of letters, digits, `-`, `_` and `.`, and what else is named.
fn words<'a>(text: &'a str, more: &'static str) -> impl Iterator<Item = &'a str> {
    text.split(move |c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c) || more.contains(c)))
}

#[test]
fn every_file_is_in_a_kustomization_and_what_a_kustomization_names_is_there() {
    let mut named = BTreeSet::new();
    let files = files();
    let is_kustomization = |file: &&File| file.path.ends_with("kustomization.yaml");
    for file in files.iter().filter(is_kustomization) {
        let directory = file.path.parent().expect("a directory");
        let kustomization = &file.documents[0];
        let listed = ["/resources", "/components"].into_iter().flat_map(|of| list(kustomization, of));
        let listed = listed.filter_map(Value::as_str);
        let patches = list(kustomization, "/patches").iter().filter_map(|patch| patch["path"].as_str());
        for name in listed.chain(patches) {
            let path = directory.join(name);
            let path = path.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            named.insert(if path.is_dir() { path.join("kustomization.yaml") } else { path });
        }
    }
    // Overlays are what is applied: nobody names those.
    let overlays = root().join("deploy/kubernetes/overlays");
    for file in files.iter().filter(|file| !(is_kustomization(file) && file.path.starts_with(&overlays))) {
        let path = file.path.canonicalize().expect("it was read");
        assert!(named.contains(&path), "no kustomization names {}", path.display());
    }
}

#[test]
fn every_variable_is_one_that_a_worker_reads() {
    let help = Command::new(env!("CARGO_BIN_EXE_onceward")).args(["worker", "--help"]).output().expect("help");
    let help = String::from_utf8(help.stdout).expect("text");
    let known: BTreeSet<_> = words(&help, "").map(|word| word.trim_end_matches('.')).collect();
    assert!(known.contains("ONCEWARD_LEASE"), "{help}");
    let mut used = 0;
    for file in files() {
        // In comments, too: they tell what else to change.
        for word in words(&file.text, "").map(|word| word.trim_end_matches('.')) {
            if word.starts_with("ONCEWARD_") {
                used += 1;
                assert!(known.contains(word), "{}: no worker reads {word}", file.path.display());
            }
        }
    }
    assert!(used >= 8, "the variables were not found");
}

#[test]
fn probes_and_prometheus_ask_where_the_admin_port_answers() {
    let port = AdminListen::DEFAULT.port();
    let deployment = deployment();
    let container = deployment.pointer("/spec/template/spec/containers/0").expect("a container");
    assert_eq!(container["ports"], json!([{"name": "metrics", "containerPort": port}]));
    let environment = list(container, "/env");
    let listen = environment.iter().find(|variable| variable["name"] == "ONCEWARD_ADMIN_LISTEN").expect("the variable");
    assert_eq!(listen["value"], format!("0.0.0.0:{port}"));

    let served = read(&root().join("src/admin.rs"));
    let monitor = only("ServiceMonitor", "components/prometheus/servicemonitor.yaml");
    let asked = [
        (&container["startupProbe"]["httpGet"], "/livez"),
        (&container["livenessProbe"]["httpGet"], "/livez"),
        (&container["readinessProbe"]["httpGet"], "/readyz"),
        (&monitor["spec"]["endpoints"][0], "/metrics"),
    ];
    for (get, path) in asked {
        assert_eq!((&get["path"], &get["port"]), (&json!(path), &json!("metrics")), "{get}");
        assert!(served.contains(&format!(".route({path:?}, ")), "the admin port does not serve {path}");
    }
    let service = only("Service", "base/service.yaml");
    assert_eq!(service["spec"]["ports"], json!([{"name": "metrics", "port": port, "targetPort": "metrics"}]));
    let mut let_in = Vec::new();
    for policy in of_kind("NetworkPolicy") {
        let ports = list(&policy, "/spec/ingress").iter().flat_map(|rule| list(rule, "/ports"));
        let_in.extend(ports.map(|allowed| allowed["port"].clone()));
    }
    assert_eq!(let_in, [json!(port)], "only the admin port is open to others");
}

#[test]
fn a_stop_has_more_time_than_a_drain_takes() {
    for deployment in of_kind("Deployment") {
        let Some(grace) = deployment.pointer("/spec/template/spec/terminationGracePeriodSeconds") else { continue };
        let variables = list(&deployment, "/spec/template/spec/containers/0/env");
        let set = variables.iter().find(|variable| variable["name"] == "ONCEWARD_DRAIN_TIME");
        let flag = set.map(|variable| format!("--drain-time={}", text(variable, "/value")));
        let flags = flag.as_deref().into_iter().chain(["--amqp-url=amqp://host"]);
        let drain = worker_with(&flags.collect::<Vec<_>>()).drain_time;
        let grace = Duration::from_secs(grace.as_u64().expect("seconds"));
        assert!(grace >= drain + AFTER_THE_DRAIN, "a pod is killed after {grace:?}, a drain takes up to {drain:?}");
    }
    assert!(number(&deployment(), "/spec/template/spec/terminationGracePeriodSeconds") > 0);
}

#[test]
fn a_worker_runs_without_any_privilege() {
    let deployment = deployment();
    let pod = deployment.pointer("/spec/template/spec").expect("a pod");
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    let container = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    });
    assert_eq!(pod["containers"][0]["securityContext"], container);
}

#[test]
fn what_a_producer_must_not_reach_is_closed() {
    let policies = of_kind("NetworkPolicy");
    let receivers = policies.iter().find(|policy| policy["metadata"]["name"] == "onceward-worker-receivers");
    let closed = list(receivers.expect("the policy"), "/spec/egress/0/to/0/ipBlock/except");
    for range in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "127.0.0.0/8"] {
        assert!(closed.contains(&json!(range)), "{range} is open to whoever publishes an event");
    }
}

#[test]
fn the_rules_are_those_of_the_alerts() {
    let rule = only("PrometheusRule", "components/prometheus/prometheusrule.yaml");
    let path = root().join("deploy/prometheus/alerts.yml");
    let alerts = parse(&path, &read(&path)).remove(0);
    assert!(list(&alerts, "/groups/0/rules").len() >= 10, "the alerts were not found: {alerts:#}");
    assert_eq!(
        rule["spec"], alerts,
        "what follows `spec:` in prometheusrule.yaml is to be what alerts.yml has from `groups:` on"
    );
}

#[test]
fn keda_asks_for_queues_and_metrics_that_there_are() {
    let scaled = only("ScaledObject", "components/keda/scaledobject.yaml");
    let triggers = list(&scaled, "/spec/triggers");
    let [pending, queued] = triggers else { panic!("two triggers: {triggers:#?}") };

    let defaults = defaults();
    let queue = Names::new(&defaults.broker.exchange).partition(Partition(7));
    let prefix = queue.strip_suffix('7').expect("the number comes last").replace('.', r"\.");
    assert_eq!(text(queued, "/metadata/queueName"), format!("^{prefix}[0-9]+$"));

    let query = text(pending, "/metadata/query");
    let unquoted: String = query.split('"').step_by(2).collect();
    let telemetry = read(&root().join("src/telemetry/metrics/gauges.rs"));
    for name in words(&unquoted, "").filter(|name| !name.is_empty() && !PROMQL.contains(name)) {
        let instrument = format!("{:?}", name.replace('_', "."));
        assert!(telemetry.contains(&instrument), "no worker shows {name}: {query}");
    }
    assert!(query.contains(&format!("onceward_state=\"{}\"", State::Pending.name())), "{query}");

    let most = number(&scaled, "/spec/maxReplicaCount");
    assert!(most <= u64::from(defaults.partitions), "there is work for {} workers", defaults.partitions);
    let (target, worker) = (&scaled["spec"]["scaleTargetRef"]["name"], &deployment()["metadata"]["name"]);
    assert_eq!(target, worker);
}

#[test]
fn the_operators_secrets_and_servers_are_found_under_their_names() {
    let rabbitmq = only("RabbitmqCluster", "overlays/operators/rabbitmq.yaml");
    let postgres = only("Cluster", "overlays/operators/postgres.yaml");
    let (broker, database) = (text(&rabbitmq, "/metadata/name"), text(&postgres, "/metadata/name"));
    let plugins = list(&rabbitmq, "/spec/rabbitmq/additionalPlugins");
    assert!(plugins.contains(&json!("rabbitmq_consistent_hash_exchange")), "{plugins:?}");

    let worker = only("Deployment", "overlays/operators/worker.yaml");
    let mut secrets = Vec::new();
    at_key(&worker, "secretKeyRef", &mut secrets);
    let keda = only("TriggerAuthentication", "overlays/operators/triggerauthentication.yaml");
    let secrets = secrets.into_iter().chain(list(&keda, "/spec/secretTargetRef"));
    let names: BTreeSet<_> = secrets.map(|secret| text(secret, "/name").to_owned()).collect();
    let expected = [format!("{broker}-default-user"), format!("{database}-app")];
    assert_eq!(names, expected.into_iter().collect());

    let variables = list(&worker, "/spec/template/spec/containers/0/env");
    let url = variables.iter().find_map(|variable| variable["value"].as_str()).expect("the broker's URL");
    let url = url.replace("$(RABBITMQ_USER)", "user").replace("$(RABBITMQ_PASSWORD)", "a-b_c");
    assert_eq!(url, format!("amqp://user:a-b_c@{broker}:5672/%2f"));
    worker_with(&[&format!("--amqp-url={url}")]);

    let policy = only("NetworkPolicy", "overlays/operators/networkpolicy.yaml");
    let mut selected = Vec::new();
    at_key(&policy, "matchLabels", &mut selected);
    assert_eq!(selected, [&json!({"app.kubernetes.io/name": broker}), &json!({"cnpg.io/cluster": database})]);
}

#[test]
fn the_image_is_of_this_version_and_named_in_one_place() {
    let base = only("Kustomization", "base/kustomization.yaml");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(base["images"], json!([{"name": "onceward", "newTag": version}]));
    assert_eq!(deployment().pointer("/spec/template/spec/containers/0/image"), Some(&json!("onceward")));
    let page = root().join("deploy/docs/kubernetes.md");
    let texts = files().into_iter().map(|file| (file.path, file.text)).chain([(page.clone(), read(&page))]);
    for (path, text) in texts {
        for word in words(&text, ":/") {
            let Some((_, tag)) = word.rsplit_once("onceward:") else { continue };
            let tag = tag.trim_end_matches(['.', ':']);
            assert!(tag.is_empty() || tag == version, "{}: {word} is not of version {version}", path.display());
        }
    }
}

#[test]
fn the_operators_start_the_same_versions_as_compose_and_the_chart() {
    let path = root().join("docker-compose.yml");
    let compose = parse(&path, &read(&path)).remove(0);
    let version = |image: &str| image.rsplit(':').next().expect("a tag").to_owned();
    for (service, kind, image) in
        [("rabbitmq", "RabbitmqCluster", "/spec/image"), ("postgres", "Cluster", "/spec/imageName")]
    {
        let resource = only(kind, &format!("overlays/operators/{service}.yaml"));
        let image = text(&resource, image);
        assert_eq!(version(image), version(text(&compose, &format!("/services/{service}/image"))), "{service}");
        let template = read(&root().join(format!("deploy/helm/templates/{service}.yaml")));
        assert!(template.lines().any(|line| line.ends_with(&format!(": {image}"))), "the chart has another {service}");
    }
}

#[test]
fn the_pages_name_files_that_there_are() {
    for page in ["deploy/docs/kubernetes.md", "deploy/docs/sizing.md"] {
        let text = read(&root().join(page));
        let named: Vec<_> = words(&text, "/").filter(|word| word.starts_with("deploy/")).collect();
        assert!(!named.is_empty(), "{page} names no file");
        for path in named {
            let path = path.trim_end_matches('.');
            assert!(root().join(path).exists(), "{page}: {path} is not there");
        }
    }
}
