//! The chart of `deploy/helm` says what the program and the manifests of `deploy/kubernetes` say.
//!
//! What Helm makes of it, `deploy/helm/check` finds out, which runs here where Helm is installed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::{Args as _, Parser as _};
use onceward::cli::Cli;
use onceward::config::WorkerArgs;
use serde_json::{Value, json};

/// Flags that the chart sets by values of their own, or by itself.
const ELSEWHERE: [&str; 6] = ["admin-listen", "amqp-url", "database-url", "destinations", "name", "signing-secrets"];
/// What a worker reads that is no flag.
const ONLY_VARIABLES: [&str; 2] = ["ONCEWARD_LOG", "ONCEWARD_LOG_FORMAT"];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn schema() -> Value {
    serde_json::from_str(&read("deploy/helm/values.schema.json")).expect("JSON")
}

fn settings() -> BTreeMap<String, Value> {
    let schema = schema();
    let settings = schema["properties"]["settings"]["properties"].as_object().expect("settings");
    settings.iter().map(|(name, of)| (name.clone(), resolved(&schema, of))).collect()
}

/// What a definition says, with what stands beside the reference to it.
fn resolved(schema: &Value, of: &Value) -> Value {
    let mut whole = of.clone();
    let reference = of["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    let definition = reference.map(|pointer| schema.pointer(pointer).expect("a definition"));
    for (key, value) in definition.and_then(Value::as_object).into_iter().flatten() {
        whole[key] = value.clone();
    }
    whole
}

/// All files below a directory.
fn files(directory: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path(directory)).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = format!("{directory}/{}", entry.file_name().to_str().expect("a name"));
        if entry.path().is_dir() {
            found.extend(files(&name));
        } else {
            found.push(name);
        }
    }
    found
}

/// The chart's values with others over them, as Helm lays them: null takes away.
fn laid_over(mut values: Value, over: &Value) -> Value {
    let (Some(fields), Some(others)) = (values.as_object_mut(), over.as_object()) else { return over.clone() };
    for (key, other) in others {
        match fields.remove(key) {
            _ if other.is_null() => None,
            Some(value) => fields.insert(key.clone(), laid_over(value, other)),
            None => fields.insert(key.clone(), other.clone()),
        };
    }
    values
}

/// What a schema has against values.
fn wrong(values: &Value) -> Vec<String> {
    let validator = jsonschema::validator_for(&schema()).expect("a schema");
    validator.iter_errors(values).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// The paths of all values that the schema names, with dots.
fn named(of: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    for (name, inner) in of["properties"].as_object().into_iter().flatten() {
        let path = format!("{prefix}{name}");
        named(inner, &format!("{path}."), found);
        found.insert(path);
    }
}

/// Whether the schema knows a path with dots, which may lead on into what Kubernetes defines.
fn knows(path: &str) -> bool {
    let schema = schema();
    let mut at = &schema;
    for part in path.split('.') {
        match (&at["properties"][part], &at["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => return false,
            (Value::Null, _) => return at["type"] == "object" || at.get("$ref").is_some(),
            (inner, _) => at = inner,
        }
    }
    true
}

/// Words of letters, digits, `-`, `_` and `.`.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c)));
    words.map(|word| word.trim_end_matches('.')).filter(|word| !word.is_empty())
}

/// Whether a worker could be started with a flag.
fn takes(flag: &str, value: &str) -> bool {
    let needed = ["onceward", "worker", "--amqp-url=amqp://host", "--database-url=postgres://host/db"];
    Cli::try_parse_from(needed.into_iter().chain([format!("--{flag}={value}").as_str()])).is_ok()
}

/// A value as the chart's templates write it.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The section of the page that is about the chart.
fn page() -> String {
    let page = read("deploy/docs/kubernetes.md");
    let (_, section) = page.split_once("\n## Helm\n").expect("the section");
    section.split("\n## ").next().unwrap_or_default().to_owned()
}

#[test]
fn the_schema_takes_the_values_of_the_chart_and_of_all_examples() {
    let schema = schema();
    assert!(jsonschema::meta::is_valid(&schema), "the schema is none");
    let values = yaml("deploy/helm/values.yaml");
    assert_eq!(wrong(&values), Vec::<String>::new());
    let examples = files("deploy/helm/ci");
    assert!(examples.len() >= 8, "the examples were not found: {examples:?}");
    for example in examples {
        let found = wrong(&laid_over(values.clone(), &yaml(&example)));
        assert!(found.is_empty(), "{example}: {found:#?}");
    }
    for refused in [
        json!({"replicas": 3}),
        json!({"settings": {"leese": "20s"}}),
        json!({"broker": {"secret": "onceward"}}),
        json!({"autoscaling": {"kind": "both"}}),
        json!({"image": {"tag": 1.0}}),
    ] {
        assert_eq!(wrong(&laid_over(values.clone(), &refused)).len(), 1, "{refused}");
    }
}

#[test]
fn the_file_of_values_has_every_value_that_the_schema_has_and_no_other() {
    let mut named_by_schema = BTreeSet::new();
    let schema = schema();
    named(&schema, "", &mut named_by_schema);
    // Those of a parent chart, and the flags, which are not set.
    named_by_schema.retain(|name| name != "global" && !name.starts_with("settings."));
    let values = yaml("deploy/helm/values.yaml");
    for name in named_by_schema {
        let pointer = format!("/{}", name.replace('.', "/"));
        assert!(values.pointer(&pointer).is_some(), "values.yaml does not tell of {name}");
    }
    // That it has no other, the schema sees to, which has to be closed everywhere.
    closed(&schema, "");
}

fn closed(of: &Value, path: &str) {
    for (name, inner) in of["properties"].as_object().into_iter().flatten() {
        assert_eq!(of["additionalProperties"], false, "the schema lets anything be in {path:?}");
        assert!(inner["description"].is_string() || name == "ports", "the schema does not explain {path}{name}");
        closed(inner, &format!("{path}{name}."));
    }
}

#[test]
fn the_settings_are_the_flags_of_a_worker() {
    let command = WorkerArgs::augment_args(clap::Command::new("worker"));
    let flags: BTreeSet<_> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    let settings = settings();
    let settings: BTreeSet<_> = settings.keys().map(String::as_str).collect();
    let elsewhere: BTreeSet<_> = ELSEWHERE.into();
    assert!(settings.is_disjoint(&elsewhere), "they would be set twice");
    assert_eq!(settings.union(&elsewhere).copied().collect::<BTreeSet<_>>(), flags);
    let variables = read("deploy/helm/templates/_env.tpl");
    for flag in ELSEWHERE {
        let variable = format!("- name: ONCEWARD_{}\n", flag.to_uppercase().replace('-', "_"));
        assert!(variables.contains(&variable), "the chart does not set --{flag}");
    }
}

#[test]
fn a_setting_may_be_what_its_flag_may_be() {
    let command = WorkerArgs::augment_args(clap::Command::new("worker"));
    for (name, setting) in settings() {
        let arg = command.get_arguments().find(|arg| arg.get_long() == Some(&name)).expect("a flag");
        let default = arg.get_default_values().first().and_then(|default| default.to_str());
        let default = default.filter(|default| !default.is_empty());
        assert_eq!(setting.get("default").map(text).as_deref(), default, "{name}: the default");

        let possible: BTreeSet<_> = arg.get_possible_values().iter().map(|of| of.get_name().to_owned()).collect();
        let listed = setting["enum"].as_array().into_iter().flatten().map(text).collect();
        assert_eq!(possible, listed, "{name}: the possible values");

        let limits = (setting["minimum"].as_i64(), setting["maximum"].as_i64());
        let is_number = setting["type"] == "integer" || setting["type"] == "number";
        assert_eq!(is_number, limits.0.is_some() && limits.1.is_some(), "{name}: a number has limits");
        if let (Some(least), Some(most)) = limits {
            for (value, good) in [(least - 1, false), (least, true), (most, true), (most + 1, false)] {
                assert_eq!(takes(&name, &value.to_string()), good, "--{name}={value}");
            }
        }
    }
}

#[test]
fn times_are_written_as_for_the_worker() {
    let times = settings().into_iter().filter(|(_, setting)| setting["examples"][0] == "500ms");
    let times: Vec<_> = times.map(|(name, _)| name).collect();
    assert!(times.len() >= 10, "{times:?}");
    for name in times {
        for (time, good) in [
            ("500ms", true),
            ("5s", true),
            ("90min", true),
            ("2h", true),
            ("7days", true),
            ("15", false),
            ("soon", false),
            ("-1s", false),
            ("", false),
        ] {
            assert_eq!(takes(&name, time), good, "--{name}={time}");
            let found = wrong(&json!({"settings": {&name: time}}));
            assert_eq!(found.is_empty(), good, "{name}: {time}: {found:?}");
        }
    }
}

#[test]
fn the_example_with_everything_has_settings_that_a_worker_takes() {
    let example = yaml("deploy/helm/ci/everything-values.yaml");
    let set = example["settings"].as_object().expect("settings");
    let missing: Vec<_> = settings().into_keys().filter(|name| !set.contains_key(name)).collect();
    // URLs and secrets are in Secrets there, and so in no files.
    assert_eq!(missing, ["amqp-url-file", "database-url-file", "signing-secrets-file"]);
    let no_files = set.iter().filter(|(_, value)| !text(value).starts_with('/'));
    let flags = no_files.map(|(name, value)| match value.as_array() {
        Some(list) => format!("--{name}={}", list.iter().map(text).collect::<Vec<_>>().join(",")),
        None => format!("--{name}={}", text(value)),
    });
    let needed = ["onceward", "worker", "--amqp-url=amqp://host", "--database-url=postgres://host/db"];
    let worker = Cli::try_parse_from(needed.map(str::to_owned).into_iter().chain(flags)).expect("settings");
    let onceward::cli::Command::Worker(worker) = worker.command else { panic!("not the worker") };
    assert_eq!(worker.validate(), Ok(()));
    assert_eq!((worker.body_limit, worker.final_statuses.0.len()), (10_485_760, 15));
}

#[test]
fn every_variable_that_the_chart_names_is_one_that_a_worker_reads() {
    let command = WorkerArgs::augment_args(clap::Command::new("worker"));
    let known = command.get_arguments().filter_map(|arg| arg.get_env()?.to_str());
    let known: BTreeSet<_> = known.chain(ONLY_VARIABLES).collect();
    let mut used = BTreeSet::new();
    for file in files("deploy/helm") {
        let text = read(&file);
        for word in words(&text).filter(|word| word.starts_with("ONCEWARD_") && *word != "ONCEWARD_") {
            assert!(known.contains(word), "{file}: no worker reads {word}");
            used.insert(word.to_owned());
        }
    }
    assert!(used.len() >= 8, "the variables were not found: {used:?}");
}

#[test]
fn the_rules_are_those_of_the_alerts() {
    assert!(
        read("deploy/helm/files/alerts.yml") == read("deploy/prometheus/alerts.yml"),
        "cp deploy/prometheus/alerts.yml deploy/helm/files/"
    );
}

#[test]
fn chart_image_and_program_have_one_version() {
    let chart = yaml("deploy/helm/Chart.yaml");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((&chart["version"], &chart["appVersion"]), (&json!(version), &json!(version)));
    assert_eq!(chart["description"], env!("CARGO_PKG_DESCRIPTION"));
    let image = &yaml("deploy/helm/values.yaml")["image"];
    assert_eq!((&image["repository"], &image["tag"]), (&json!("onceward"), &json!("")));
}

#[test]
fn values_that_the_manifests_have_too_are_the_same() {
    let values = yaml("deploy/helm/values.yaml");
    let base = yaml("deploy/kubernetes/base/deployment.yaml");
    let pod = &base["spec"]["template"]["spec"];
    assert_eq!(values["replicaCount"], base["spec"]["replicas"]);
    assert_eq!(values["resources"], pod["containers"][0]["resources"]);
    assert_eq!(values["securityContext"], pod["containers"][0]["securityContext"]);
    assert_eq!(values["podSecurityContext"], pod["securityContext"]);
    let scaled = &yaml("deploy/kubernetes/components/keda/scaledobject.yaml")["spec"];
    let scaling = &values["autoscaling"];
    assert_eq!(scaling["minReplicas"], scaled["minReplicaCount"]);
    assert_eq!(scaling["maxReplicas"], scaled["maxReplicaCount"]);
    assert_eq!(scaling["keda"]["prometheus"]["address"], scaled["triggers"][0]["metadata"]["serverAddress"]);
    let postgres = &yaml("deploy/kubernetes/overlays/operators/postgres.yaml")["spec"];
    for (ours, theirs) in
        [("/instances", "/instances"), ("/storage", "/storage/size"), ("/walStorage", "/walStorage/size")]
    {
        assert_eq!(values["postgres"].pointer(ours), postgres.pointer(theirs));
    }
}

#[test]
fn every_value_that_templates_and_pages_name_is_there() {
    let mut found = Vec::new();
    for file in files("deploy/helm/templates") {
        let text = read(&file);
        let used = text.split(".Values.").skip(1).filter_map(|rest| words(rest).next().map(str::to_owned));
        found.extend(used.map(|value| (file.clone(), value)));
    }
    let tells = ["deploy/helm/templates/NOTES.txt", "deploy/helm/templates/_validate.tpl"];
    let tells = tells.map(|file| (file, read(file)));
    let pages = [("deploy/docs/kubernetes.md", page()), ("deploy/helm/README.md", read("deploy/helm/README.md"))];
    let schema = schema();
    let tops = schema["properties"].as_object().expect("values");
    for (file, text) in tells.iter().chain(&pages) {
        let flags = text.split("--set").skip(1).filter_map(|rest| rest.split_once(' ')?.1.split('=').next());
        let is_page = Path::new(file).extension().is_some_and(|extension| extension == "md");
        // In pages, words with dots are names of hosts, too: those in quotes are meant.
        let quoted = text.split('`').skip(1).step_by(2).filter(|quoted| is_page && !quoted.contains('\n'));
        let quoted = quoted.filter_map(|quoted| quoted.split('=').next());
        let told = words(text).filter(|_| !is_page).chain(quoted);
        let told = told.filter(|word| word.split_once('.').is_some_and(|(top, _)| tops.contains_key(top)));
        found.extend(flags.chain(told).map(|value| ((*file).to_owned(), value.to_owned())));
    }
    assert!(found.len() >= 100, "the values were not found: {found:?}");
    for (file, value) in found {
        assert!(knows(&value), "{file}: there is no value {value}");
    }
}

#[test]
fn what_the_page_writes_into_a_file_of_values_is_taken() {
    let page = page();
    let blocks: Vec<_> = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!blocks.is_empty(), "the page shows no file of values");
    let values = yaml("deploy/helm/values.yaml");
    for block in blocks {
        let over = serde_saphyr::from_str(block).unwrap_or_else(|error| panic!("{error}: {block}"));
        assert_eq!(wrong(&laid_over(values.clone(), &over)), Vec::<String>::new(), "{block}");
    }
}

#[test]
fn helm_makes_of_it_what_kustomize_makes_of_the_manifests() {
    if Command::new("helm").arg("version").output().is_err() {
        println!("NOT CHECKED: there is no helm here; run deploy/helm/check where it is installed.");
        return;
    }
    let check = Command::new(path("deploy/helm/check")).output().expect("deploy/helm/check starts");
    let told = [check.stdout, check.stderr].map(|told| String::from_utf8_lossy(&told).into_owned());
    // Definitions of operators are in clusters: without them, their kinds alone are not checked.
    assert!(check.status.success(), "{}", told.concat());
}
