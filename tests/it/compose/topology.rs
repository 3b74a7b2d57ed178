//! What docker-compose.yml describes, as processes: with its commands and its environment, in which only the places of
//! other hosts and of mounted files are replaced.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::project::{Project, path, read};
use crate::support::{
    Admin, Collector, Load, Prometheus, SOON, Worker, World, asking, run_to_end, run_to_end_in, test,
};

/// In place of the load of the compose file, as on the command line.
const SMALL_LOAD: [&str; 5] = ["--events=400", "--entities=60", "--failures=1", "--doomed=0", "--poison=2"];

/// The project on the servers of a test.
struct Stage<'a> {
    world: &'a World,
    project: Project,
    /// What stands in the compose file, and in place of what.
    replaced: Vec<(&'static str, String)>,
    directory: PathBuf,
}

impl<'a> Stage<'a> {
    fn set(world: &'a World, collector: &Collector) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&world.name);
        std::fs::create_dir_all(&directory).expect("a directory for secrets and report");
        for (secret, url) in [("amqp_url", &world.amqp_url), ("database_url", &world.database_url)] {
            std::fs::write(directory.join(secret), format!("{url}\n")).expect("a secret is written");
        }
        let endpoint = collector.environment()[0].1.clone();
        let here = directory.display().to_string();
        let replaced = vec![
            ("/run/secrets", here.clone()),
            ("http://jaeger:4318", endpoint),
            ("0.0.0.0:9464", "127.0.0.1:0".into()),
            ("0.0.0.0:8080", "127.0.0.1:0".into()),
            ("--listen=0.0.0.0", "--listen=127.0.0.1".into()),
            ("--advertise=verify", "--advertise=127.0.0.1".into()),
            ("=/reports", format!("={here}")),
            ("/demo/events.ndjson", path("deploy/compose/demo.ndjson").display().to_string()),
        ];
        Self { world, project: Project::load(), replaced, directory }
    }

    fn put(&self, text: &str) -> String {
        self.replaced.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    /// The process of a service; with other arguments than those of `command`, if there are any.
    fn start(&self, service: &str, instead: Option<&[&str]>) -> Worker {
        let service = self.project.service(service);
        let mut arguments = service.arguments();
        if let Some(instead) = instead {
            arguments.truncate(arguments.len() - service.list("command").len());
            arguments.extend(instead);
        }
        let arguments: Vec<_> = arguments.into_iter().map(|argument| self.put(argument)).collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let mut environment: Vec<_> =
            service.environment().into_iter().map(|(name, value)| (name, self.put(value))).collect();
        if environment.iter().any(|(name, _)| *name == "ONCEWARD_ALLOW_HOST") {
            // Names of the compose file's network; here it is this machine.
            environment.push(("ONCEWARD_ALLOW_NET", "127.0.0.0/8".into()));
        }
        Worker::run_in(self.world, &arguments, &environment)
    }
}

/// The events of the demo: entity and key, in their order.
fn demo_events() -> Vec<(String, String)> {
    let text = |event: &Value, field: &str| event[field].as_str().expect("a text").to_owned();
    let lines = read("deploy/compose/demo.ndjson");
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    events.map(|event| (text(&event, "entity"), text(&event, "key"))).collect()
}

/// Each event of the demo was seen once, and those of an entity in their order.
fn seen_once_in_order(log: &str) {
    let shown: Vec<(&str, &str)> = log
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            Some((words.next()?, words.next()?))
        })
        .collect();
    let events = demo_events();
    for (entity, key) in &events {
        assert_eq!(shown.iter().filter(|(_, shown)| shown == key).count(), 1, "{key}:\n{log}");
        let expected: Vec<_> =
            events.iter().filter(|(other, _)| other == entity).map(|(_, key)| key.as_str()).collect();
        let seen: Vec<_> = shown.iter().filter(|(shown, _)| shown == entity).map(|(_, key)| *key).collect();
        assert_eq!(seen, expected, "{entity}:\n{log}");
    }
}

/// Waits until Prometheus has scraped all workers.
async fn all_are_scraped(prometheus: &Prometheus, workers: usize) {
    asking(SOON, "all workers to be scraped", async || {
        let series = prometheus.query("count(up{job=\"onceward\"} == 1)").await.expect("an expression");
        series.first().is_some_and(|series| series["value"][1] == workers.to_string().as_str()).then_some(())
    })
    .await;
}

#[test]
fn what_the_compose_file_starts_works_as_processes() {
    test(Load::Shared, async |world| {
        let collector = Collector::over_http().await;
        let mut stage = Stage::set(world, &collector);
        let count = stage.project.service("worker").value["scale"].as_u64().expect("a number");
        let workers: Vec<_> = (0..count).map(|_| stage.start("worker", None)).collect();
        let mut admins = Vec::new();
        for worker in &workers {
            worker.wait_for_line(SOON * 2, "ready: consuming").await;
            let admin = Admin::of(worker).await;
            admin.wait_for_ready(true, "").await;
            admins.push(admin);
        }
        let addresses: Vec<_> = admins.iter().map(Admin::address).collect();
        let prometheus = Prometheus::start(&addresses, &path("deploy/prometheus/alerts.yml")).await;

        let sink = stage.start("sink", None);
        sink.wait_for_line(SOON, "listening on ").await;
        let url = sink.log().lines().find_map(|line| line.strip_prefix("listening on ").map(ToOwned::to_owned));
        stage.replaced.push(("http://sink:8080", url.expect("just waited for")));
        // The second time nothing comes.
        for _ in 0..2 {
            let demo = stage.start("demo", None);
            assert_eq!(demo.ends_by_itself(SOON).await, 0, "{}", demo.log());
        }
        for (_, key) in demo_events() {
            sink.wait_for_line(SOON, &key).await;
        }

        let verify = stage.start("verify", Some(&SMALL_LOAD));
        assert_eq!(verify.ends_by_itself(SOON * 3).await, 0, "{}", verify.log());
        let report = stage.directory.join("report.json").display().to_string();
        let (code, text) = run_to_end(world, &["report", &report]).await;
        assert!(code == 0 && text.contains("every promise was kept"), "{text}");

        collector
            .wait_for(SOON, "the workers' traces", |spans| {
                let named = |name: &str| spans.iter().any(|span| span.name == name);
                named("process events") && named("POST")
            })
            .await;
        all_are_scraped(&prometheus, workers.len()).await;
        for worker in &workers {
            worker.stop().await;
        }
        sink.signal("TERM");
        assert_eq!(sink.exit_code(SOON).await, 0);
        seen_once_in_order(&sink.log());
        std::fs::remove_dir_all(&stage.directory).expect("it is ours");
    });
}

/// What `onceward health` says, with the worker's own variable.
async fn health(world: &World, admin: &str, arguments: &[&str]) -> (i32, String) {
    let environment = [("ONCEWARD_ADMIN_LISTEN", admin.to_owned())];
    run_to_end_in(world, &[&["health"], arguments].concat(), &environment).await
}

#[test]
fn health_says_whether_a_worker_is_ready_and_what_is_missing() {
    test(Load::Shared, async |world| {
        let worker = Worker::start(world, &[]).await;
        let admin = Admin::of(&worker).await;
        admin.wait_for_ready(true, "").await;
        assert_eq!(health(world, admin.address(), &[]).await, (0, "ready".into()));
        worker.stop().await;
        let (code, text) = health(world, admin.address(), &[]).await;
        assert!(code == 1 && text.contains("no worker answers at http://127.0.0.1:"), "{code} {text}");

        let lonely = Worker::spawn(world, &["--amqp-url=amqp://guest@127.0.0.1:1"]);
        let admin = Admin::of(&lonely).await;
        admin.wait_for_ready(false, "the broker is unreachable").await;
        let (code, text) = health(world, admin.address(), &[]).await;
        assert!(code == 1 && text.contains("not ready: the broker is unreachable"), "{code} {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert_eq!(health(world, admin.address(), &["--live"]).await, (0, "ok".into()));
        let (code, text) = health(world, "off", &[]).await;
        assert!(code == 1 && text.contains("--admin-listen is off"), "{code} {text}");
        lonely.kill().await;
    });
}

#[test]
fn a_worker_whose_url_is_given_wrongly_in_a_file_says_so_in_one_line() {
    test(Load::Shared, async |world| {
        let missing = [("ONCEWARD_AMQP_URL_FILE", "/nowhere/amqp_url".to_owned())];
        let both = [("ONCEWARD_AMQP_URL", world.amqp_url.clone()), missing[0].clone()];
        let cases: [(&[(&str, String)], &str); 2] =
            [(&missing, "--amqp-url-file /nowhere/amqp_url: No such file"), (&both, "are both given: use one of them")];
        for command in ["worker", "publish", "verify"] {
            for (environment, says) in cases {
                let more = [("ONCEWARD_DATABASE_URL", world.database_url.clone())];
                let one = if command == "publish" { &["--entity=a", "--body={}"][..] } else { &[] };
                let (arguments, environment) = ([&[command], one].concat(), [environment, &more].concat());
                let (code, text) = run_to_end_in(world, &arguments, &environment).await;
                assert!(code == 2 && text.lines().count() == 1 && text.contains(says), "{command}: {code} {text}");
            }
        }
    });
}
