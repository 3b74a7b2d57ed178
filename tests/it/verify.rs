//! `onceward verify`: it passes where the promises are kept, sees where they are not, and writes its report whatever happens.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Load, SOON, Worker, World, run_to_end, test, within};

/// Short, so that a run ends soon.
const QUICK: [&str; 9] = [
    "verify",
    "--partitions=4",
    "--attempt-timeout=1s",
    "--backoff-initial=100ms",
    "--backoff-max=500ms",
    "--worker-flag=--lease=2s",
    "--entities=40",
    "--poison=6",
    "--doomed=0.5",
];
const LONG: Duration = Duration::from_mins(2);

fn path(world: &World, name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{name}", world.name))
}

fn read(path: &PathBuf) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// Every report keeps to the schema that the program prints.
async fn keeps_to_the_schema(world: &World, report: &Value) {
    let (code, schema) = run_to_end(world, &["report", "--schema"]).await;
    assert_eq!(code, 0);
    let schema: Value = serde_json::from_str(&schema).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let wrong: Vec<_> = validator.iter_errors(report).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let mut other = report.clone();
    other["verdict"] = "splendid".into();
    assert!(!validator.is_valid(&other), "the schema refuses what is none");
}

#[test]
fn verify_passes_with_workers_killed_and_paused_and_a_receiver_that_goes_away() {
    test(Load::Alone, async |world| {
        let file = path(world, "report.json");
        let troubles = ["--trouble=kill", "--trouble=pause=3s", "--trouble=receiver=1s", "--trouble-every=1s"];
        let report = format!("--report={}", file.display());
        let load = ["--workers=2", "--events=1500", "--rate=250", "--max-attempts=12", "--failures=5", "--zipf=0.8"];
        let verify = Worker::run(world, &[&QUICK[..], &load, &troubles, &[&report]].concat());
        let code = verify.ends_by_itself(LONG).await;
        let text = verify.log();
        assert_eq!(code, 0, "{text}");
        for word in ["every promise was kept", "publish → receive", "killed worker", "paused worker", "CPU"] {
            assert!(text.contains(word), "{word} is not in\n{text}");
        }
        let report = read(&file);
        keeps_to_the_schema(world, &report).await;
        assert_eq!((report["version"].clone(), report["verdict"].clone()), (1.into(), "passed".into()));
        assert_eq!(report["figures"]["confirmed"], 1_500);
        assert!(report["figures"]["dead_lettered"].as_u64().is_some_and(|count| count > 0), "{report:#}");
        assert_eq!(report["troubles"].as_array().map(Vec::len), Some(3));
        let file = file.display().to_string();
        let (code, text) = run_to_end(world, &["report", &file]).await;
        assert!(code == 0 && text.contains("every promise was kept"), "{text}");
        let (code, text) = run_to_end(world, &["report", &file, &file]).await;
        assert!(code == 0 && text.contains("second / first") && text.contains("1.00"), "{text}");
    });
}

#[test]
fn hostile_messages_come_to_their_end_and_harm_no_event() {
    test(Load::Shared, async |world| {
        let file = path(world, "report.json");
        let report = format!("--report={}", file.display());
        let quick: Vec<_> = QUICK.into_iter().filter(|flag| !flag.starts_with("--poison")).collect();
        let load = ["--poison=3,hostile", "--events=600", "--rate=200", &report];
        let verify = Worker::run(world, &[&quick[..], &load].concat());
        let (code, text) = (verify.ends_by_itself(LONG).await, verify.log());
        assert_eq!(code, 0, "{text}");
        assert!(text.contains("hostile messages dead-lettered"), "{text}");
        let report = read(&file);
        keeps_to_the_schema(world, &report).await;
        assert_eq!((report["load"]["poison"].clone(), report["figures"]["confirmed"].clone()), (3.into(), 600.into()));
        let figure = |name: &str| report["figures"]["hostile"][name].as_u64().expect("a number");
        let sent = report["load"]["hostile"].as_u64().expect("a number");
        assert_eq!((figure("confirmed"), figure("refused")), (sent, 0), "{text}");
        assert_eq!(figure("delivered") + figure("dead_lettered"), sent, "{text}");
        assert!(figure("delivered") > 5 && figure("dead_lettered") > 20, "{text}");
    });
}

#[test]
fn verify_sees_workers_that_do_not_keep_what_it_was_told() {
    test(Load::Shared, async |world| {
        let file = path(world, "report.json");
        // The cap is twenty times what the run is told, and the delays are shorter.
        let worker = Worker::start(world, &["--host-connections=40", "--backoff-initial=100ms"]).await;
        let report = format!("--report={}", file.display());
        let told = ["--workers=0", "--host-connections=2", "--backoff-initial=900ms", "--backoff-max=900ms"];
        let load = ["verify", "--events=800", "--entities=200", "--hosts=1", "--failures=5", "--poison=2", &report];
        let (code, text) = run_to_end(world, &[&load[..], &told].concat()).await;
        worker.stop().await;
        assert_eq!(code, 1, "{text}");
        let report = read(&file);
        keeps_to_the_schema(world, &report).await;
        assert_eq!(report["verdict"], "failed");
        let passed = |check: &str| {
            let checks = report["checks"].as_array().expect("a list");
            checks.iter().find(|found| found["check"] == check).expect("the check")["passed"].clone()
        };
        assert_eq!(passed("host_cap"), false, "{text}");
        assert_eq!(passed("attempts_and_backoff"), false, "{text}");
        for kept in ["nothing_lost", "nothing_sent_twice", "in_order", "no_overlap", "payload_intact"] {
            assert_eq!(passed(kept), true, "{kept}: {text}");
        }
        let early = report["checks"][5]["listed"][0].clone();
        assert!(early["key"].is_string() && early["earlier_ms"].is_u64() && early["trace_id"].is_string(), "{early}");
    });
}

#[test]
fn a_run_that_is_interrupted_writes_its_report_all_the_same() {
    test(Load::Shared, async |world| {
        let file = path(world, "report.json");
        let report = format!("--report={}", file.display());
        // Minutes of them; to make up more takes seconds of a busy machine.
        let verify = Worker::run(world, &[&QUICK[..], &["--events=20000", "--rate=100", &report]].concat());
        // Its worker owns the partitions from then on, and events flow.
        crate::support::Database::connect(world).await.wait_for_some_delivered(SOON).await;
        verify.signal("INT");
        assert_eq!(verify.exit_code(SOON).await, 1, "{}", verify.log());
        let report = read(&file);
        keeps_to_the_schema(world, &report).await;
        assert_eq!(report["verdict"], "interrupted");
        let (log, checks) = (verify.log(), report["checks"].as_array().expect("a list"));
        assert!(log.contains("interrupted") && log.contains("kept so far"), "{log}");
        assert!(checks.iter().all(|check| check["passed"] == true), "what is under way is not lost: {log}");
    });
}

#[test]
fn a_run_that_can_not_be_carried_out_says_why_in_its_report() {
    test(Load::Shared, async |world| {
        let file = path(world, "report.json");
        let report = format!("--report={}", file.display());
        let fails = ["--trouble=run=exit 3", "--trouble-every=100ms", "--events=200", &report];
        let (code, text) = run_to_end(world, &[&QUICK[..], &fails].concat()).await;
        assert_eq!(code, 1, "{text}");
        let report = read(&file);
        assert_eq!(report["verdict"], "error");
        assert!(report["reason"].as_str().is_some_and(|reason| reason.contains("exit 3")), "{report:#}");
    });
}

#[test]
fn a_trouble_or_poison_that_lacks_something_is_refused_at_the_start_in_one_line() {
    test(Load::Shared, async |world| {
        let tls = format!("--database-url={}?sslmode=require", world.database_url);
        let refused = [
            (vec!["--workers=0", "--trouble=kill"], "--workers 1"),
            (vec!["--trouble=suspend=1s"], "--suspend-with LIBRARY: build it by `cc -shared"),
            (vec!["--trouble=suspend=1s", "--suspend-with=/nowhere.so"], "/nowhere.so"),
            (vec!["--trouble=commit-lost=1s", &tls], "sslmode=disable"),
            (vec!["--poison=hostile", "--amqp-url=amqps://localhost"], "without TLS"),
        ];
        for (arguments, why) in refused {
            let (code, text) = run_to_end(world, &[&["verify"], &arguments[..]].concat()).await;
            assert!(
                code == 2 && text.contains(why) && text.trim().lines().count() == 1,
                "{arguments:?}: {code} {text}"
            );
        }
    });
}

// Two halves, side by side. Without the scenario `cluster`, which takes long: tests/it/cluster.rs is its short form.

#[test]
fn the_scenarios_of_deploy_verify_that_harm_workers_and_receivers_pass() {
    test(Load::Shared, async |world| pass(world, &["calm", "kill", "pause", "suspend", "receiver", "poison"]).await);
}

#[test]
fn the_scenarios_of_deploy_verify_that_harm_servers_and_links_pass() {
    test(Load::Shared, async |world| pass(world, &["links", "commit-lost", "broker", "database"]).await);
}

async fn pass(world: &World, scenarios: &[&str]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/verify");
    let reports = path(world, "reports");
    let mut command = tokio::process::Command::new(script);
    command.args(["--short", "--seed", "7"]).args(scenarios).kill_on_drop(true);
    command.env("ONCEWARD_BIN", env!("CARGO_BIN_EXE_onceward")).env("ONCEWARD_REPORTS", &reports);
    let output = within(Duration::from_mins(10), "deploy/verify", command.output()).await.expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    for scenario in scenarios {
        assert_eq!(read(&reports.join(format!("{scenario}-7.json")))["verdict"], "passed", "{scenario}: {text}");
    }
}

#[test]
fn a_run_ends_at_once_if_a_worker_of_its_own_does_and_says_why() {
    test(Load::Shared, async |world| {
        Worker::start(world, &["--entity-from=header:account"]).await.stop().await;
        let (code, text) = run_to_end(world, &QUICK).await;
        let told = "onceward: a worker of this run ended by itself, before the load began: this database was set up with \
                    --entity-from header:account, but it is routing-key";
        assert!(code == 1 && text.starts_with(told) && text.trim().lines().count() == 1, "{text}");
    });
}

#[test]
fn a_report_may_go_to_an_object_store() {
    test(Load::Shared, async |world| {
        let store = crate::support::S3::start(&path(world, "s3"), "reports").await;
        let to = "--report=s3://reports/runs/latest.json";
        let verify = Worker::run_with(world, &[&QUICK[..], &["--events=200", to]].concat(), &store.environment());
        assert_eq!(verify.ends_by_itself(LONG).await, 0, "{}", verify.log());
        let report = read(&store.file("runs/latest.json"));
        assert_eq!(report["verdict"], "passed");
        let mut environment = store.environment();
        environment.push(("AWS_SECRET_ACCESS_KEY", "wrong".into()));
        let run = [&QUICK[..], &["--events=200", "--report=s3://reports/runs/other.json"]].concat();
        let verify = Worker::run_with(world, &run, &environment);
        assert_eq!(verify.ends_by_itself(LONG).await, 1);
        assert!(verify.log().contains("could not be written to s3://reports/runs/other.json"), "{}", verify.log());
    });
}
