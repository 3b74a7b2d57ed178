//! Alert rules and dashboard: they are well-formed, and ask for what a worker really shows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{
    Admin, Gate, Load, Message, Producer, Prometheus, Receiver, Reply, SOON, Worker, asking, promtool, test,
};

/// Words of expressions that no worker shows: `PromQL`'s own, and what Prometheus adds.
const PROMQL: [&str; 22] = [
    "ALERTS",
    "absent",
    "alertname",
    "alertstate",
    "and",
    "by",
    "count",
    "histogram_quantile",
    "increase",
    "instance",
    "job",
    "max",
    "max_over_time",
    "offset",
    "on",
    "or",
    "rate",
    "sum",
    "topk",
    "unless",
    "Inf",
    "le",
];

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap_or_else(|error| panic!("deploy/{path}: {error}"))
}

fn dashboard() -> Value {
    serde_json::from_str(&read("grafana/dashboards/onceward.json")).expect("JSON")
}

/// All panels but the rows, which are titles.
fn panels(dashboard: &Value) -> Vec<&Value> {
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    panels.filter(|panel| panel["type"] != "row").collect()
}

/// The expressions of all panels by the panel's title, with Grafana's variables set.
fn expressions(dashboard: &Value) -> Vec<(&str, String)> {
    let of_panel = |panel| {
        let panel: &Value = panel;
        let title = panel["title"].as_str().expect("a title");
        let targets = panel["targets"].as_array().expect("targets").iter();
        targets.map(move |target| (title, set_variables(target["expr"].as_str().expect("an expression"))))
    };
    panels(dashboard).into_iter().flat_map(of_panel).collect()
}

fn set_variables(expression: &str) -> String {
    let variables = [("$__rate_interval", "1m"), ("$__range", "1h"), ("$job", "onceward"), ("$host", ".*")];
    let set = variables.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value));
    assert!(!set.contains('$'), "a variable that this test does not know: {set}");
    set
}

/// The names in an expression or a sample; what stands in quotes, numbers and durations are none.
fn names(text: &str) -> BTreeSet<&str> {
    let unquoted = text.split('"').step_by(2);
    let words = unquoted.flat_map(|part| part.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')));
    words.filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')).collect()
}

#[test]
fn alerts_fire_when_they_should_and_only_then() {
    for (arguments, file) in [
        (["check", "config"], "prometheus/prometheus.yml"),
        (["check", "rules"], "prometheus/alerts.yml"),
        (["test", "rules"], "prometheus/alerts_test.yml"),
    ] {
        let path = deploy(file);
        let (content, said) = promtool(&[arguments[0], arguments[1], path.to_str().expect("a path in UTF-8")]);
        assert!(content, "promtool {arguments:?} {file}:\n{said}");
    }
}

#[test]
fn every_alert_is_tested_with_series_that_fire_it_and_series_that_do_not() {
    let rules = read("prometheus/alerts.yml");
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    // Fired, and not.
    let mut cases: BTreeMap<&str, [u32; 2]> = alerts.map(|alert| (alert, [0, 0])).collect();
    assert!(cases.len() >= 10, "the alerts were not found: {cases:?}");
    let tests = read("prometheus/alerts_test.yml");
    for line in tests.lines() {
        let Some((_, rest)) = line.split_once("alertname: ") else { continue };
        let (name, quiet) = rest.split_once(',').map_or((rest, false), |(name, rest)| (name, rest.ends_with("[]}")));
        cases.get_mut(name).unwrap_or_else(|| panic!("no such alert: {name}"))[usize::from(quiet)] += 1;
    }
    assert!(cases.values().all(|[fired, quiet]| *fired > 0 && *quiet > 0), "{cases:?}");
}

#[test]
fn every_panel_of_the_dashboard_has_a_unit_a_description_and_a_place_of_its_own() {
    let dashboard = dashboard();
    let mut taken = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        assert!(ids.insert(panel["id"].as_u64()), "the id of {title:?} is taken");
        let place = |side: &str| panel["gridPos"][side].as_u64().expect("a number");
        for (x, y) in (0..place("w")).flat_map(|x| (0..place("h")).map(move |y| (x, y))) {
            let (x, y) = (place("x") + x, place("y") + y);
            assert!(x < 24, "{title:?} is beyond the grid");
            assert_eq!(taken.insert((x, y), title), None, "under {title:?}");
        }
    }
    for panel in panels(&dashboard) {
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
        let description = panel["description"].as_str().unwrap_or_default();
        assert!(!unit.is_empty() && !description.is_empty(), "{panel:#}");
        let sources = panel["targets"].as_array().expect("targets").iter().chain([panel]);
        for source in sources {
            assert_eq!(source["datasource"]["uid"], "${datasource}", "{panel:#}");
        }
    }
}

/// Lets a worker go through everything that is measured: deliveries, retries, dead letters, and what is still open.
async fn publish_some_of_everything(producer: &Producer, receiver: &Receiver) {
    for key in ["open", "delivered", "retried", "doomed", "doomed-too"] {
        producer.publish(&Message::new(key, key, &receiver.url())).await;
    }
    // Nobody listens there: its gate shuts.
    for number in 0..8 {
        let name = format!("down-{number}");
        producer.publish(&Message::new(&name, &name, "http://127.0.0.1:9/")).await;
    }
    producer.publish(&Message::new("gap", "gap", &receiver.url()).sequence(2)).await;
    producer.publish(&Message::new("poison", "poison", "ftp://nowhere/")).await;
}

#[test]
fn prometheus_evaluates_every_rule_and_finds_data_for_every_panel() {
    test(Load::Shared, async |world| {
        let gate = Gate::closed();
        let behind = gate.clone();
        let receiver = Receiver::new(move |request| match (request.key, request.number) {
            ("open", _) => Reply::ok().behind(&behind),
            ("doomed" | "doomed-too", _) | ("retried", 1) => Reply::status(503),
            _ => Reply::ok(),
        })
        .await;
        let settings = [
            "--attempt-timeout=1min",
            "--lease=100s",
            "--drain-time=2min",
            // The last attempt is after 15 s: rates need failures that go on.
            "--max-attempts=6",
            "--backoff-initial=500ms",
        ];
        // Declares the queues, so that the next one finds everything when it counts, 15 s after its start.
        Worker::start(world, &[]).await.stop().await;
        publish_some_of_everything(&Producer::connect(world).await, &receiver).await;
        let worker = Worker::start(world, &settings).await;
        let admin = Admin::of(&worker).await;
        let prometheus = Prometheus::start(&[admin.address()], &deploy("prometheus/alerts.yml")).await;
        let dashboard = dashboard();
        let expressions = expressions(&dashboard);
        assert!(expressions.len() >= 30, "the dashboard's expressions were not found: {expressions:?}");
        for (title, expression) in &expressions {
            has_data(&prometheus, title, expression).await;
        }
        targets_are_up(&prometheus).await;
        let rules = rules_are_well(&prometheus).await;
        let metrics = admin.metrics().await;
        let known: BTreeSet<&str> = metrics.keys().flat_map(|sample| names(sample)).chain(PROMQL).collect();
        let asked = expressions.iter().map(|(_, expression)| expression.as_str());
        for expression in asked.chain(rules.iter().map(String::as_str)) {
            let unknown: Vec<_> = names(expression).into_iter().filter(|name| !known.contains(name)).collect();
            assert!(unknown.is_empty(), "no worker shows {unknown:?}: {expression}");
        }
        gate.open();
        worker.stop().await;
    });
}

/// Waits until an expression has data. One that Prometheus does not understand fails at once.
async fn has_data(prometheus: &Prometheus, title: &str, expression: &str) {
    asking(SOON * 2, format_args!("data for {title:?}: {expression}"), async || {
        let series = prometheus.query(expression).await;
        let series = series.unwrap_or_else(|error| panic!("{title}: {expression}: {error}"));
        (!series.is_empty()).then_some(())
    })
    .await;
}

async fn targets_are_up(prometheus: &Prometheus) {
    let targets = prometheus.ask("/api/v1/targets", &[]).await.expect("the targets");
    let active = targets["activeTargets"].as_array().expect("targets");
    assert!(active.len() == 1 && active[0]["health"] == "up", "{targets:#}");
}

/// Waits until all rules were evaluated, without an error: their expressions.
async fn rules_are_well(prometheus: &Prometheus) -> Vec<String> {
    let rules = asking(SOON, "the rules' first evaluation", async || {
        let rules = prometheus.ask("/api/v1/rules", &[]).await.expect("the rules");
        let groups = rules["groups"].as_array().expect("groups").iter();
        let rules: Vec<Value> =
            groups.flat_map(|group| group["rules"].as_array().cloned().unwrap_or_default()).collect();
        rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules)
    })
    .await;
    assert!(rules.len() >= 10 && rules.iter().all(|rule| rule["health"] == "ok"), "{rules:#?}");
    rules.iter().map(|rule| rule["query"].as_str().expect("an expression").to_owned()).collect()
}
