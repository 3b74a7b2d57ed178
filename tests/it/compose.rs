//! docker-compose.yml, the Dockerfile and their page say what the program and the rest of the repository say; and what
//! they describe works, as processes.

mod page;
mod project;
mod topology;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use onceward::config::AdminListen;
use serde_json::Value;
use url::Url;

use self::project::{
    Project, dockerfile, help, instruction, knows_flag, knows_variable, path, read, stages, version, yaml,
};

/// What a worker needs between the end of its drain and its own: its last spans leave.
const AFTER_THE_DRAIN: Duration = Duration::from_secs(10);

#[test]
fn the_compose_file_keeps_to_the_compose_specification() {
    let schema: Value = serde_json::from_str(&read("tests/it/compose/compose-spec.json")).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let mut project = Project::load().0;
    let wrong: Vec<_> = validator.iter_errors(&project).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    project["services"]["worker"]["stop_graceful_period"] = "45s".into();
    assert!(!validator.is_valid(&project), "the schema refuses what is none");
}

#[test]
fn every_flag_and_variable_is_one_that_the_program_has() {
    let project = Project::load();
    let ours: Vec<_> = project.services().into_iter().filter(|service| service.is_ours()).collect();
    assert!(ours.len() >= 4, "the services were not found");
    for service in ours {
        let arguments = service.arguments();
        let help = help(&arguments[..1]);
        for flag in arguments[1..].iter().map(|argument| argument.split('=').next().unwrap_or_default()) {
            assert!(knows_flag(&help, flag), "{}: {} has no flag {flag}", service.name, arguments[0]);
        }
        for name in service.environment().into_keys().filter(|name| name.starts_with("ONCEWARD_")) {
            assert!(knows_variable(&help, name), "{}: {} does not read {name}", service.name, arguments[0]);
        }
    }
}

#[test]
fn every_path_that_is_mounted_copied_or_secret_is_there() {
    let project = Project::load();
    for service in project.services() {
        for (source, _) in service.mounts() {
            // It is made when it is needed.
            let is_made = read(".gitignore").lines().any(|line| line == format!("/{source}"));
            assert!(is_made || path(source).exists(), "{}: {source} is not there", service.name);
        }
        for (_, secret) in service.secrets() {
            assert!(path(project.secret(secret)).exists(), "{}: {secret} is not there", service.name);
        }
        for value in service.environment().into_values().filter(|value| value.starts_with("/run/secrets/")) {
            assert!(service.secrets().contains_key(value), "{}: {value} is not mounted", service.name);
        }
    }
    let ignored = read(".dockerignore");
    let build = build();
    let sources: Vec<_> = build.split("type=bind,source=").skip(1).filter_map(|rest| rest.split(',').next()).collect();
    assert_eq!(sources, ["Cargo.toml", "Cargo.lock", "src"]);
    let let_through: Vec<_> = ignored.lines().filter_map(|line| line.strip_prefix('!')).collect();
    assert_eq!(let_through, sources, ".dockerignore lets through what is built from, and nothing else");
}

/// What builds the program.
fn build() -> String {
    let mut runs = dockerfile().into_iter().filter(|(instruction, _)| instruction == "RUN").map(|(_, command)| command);
    runs.find(|command| command.contains("cargo auditable build ")).expect("the build")
}

#[test]
fn the_image_is_of_the_sources_that_are_there_and_of_the_profile_that_is_handed_out() {
    let build = build();
    let place = |text: &str| build.find(text).unwrap_or_else(|| panic!("{text:?} is missing: {build}"));
    // Cargo goes by the times of files: what an earlier build of other files has left would be taken for up to date.
    let clean = place("cargo clean --locked --profile dist --package onceward");
    assert!(clean < place("cargo auditable build --locked --profile dist --bin onceward"));
    let cache = build.split("--mount=").find(|mount| mount.contains("target=/onceward/target")).expect("a cache");
    assert!(cache.contains("sharing=locked") && cache.contains("$TARGETARCH"), "{cache}");
    assert!(read("Cargo.toml").contains("[profile.dist]"));
}

#[test]
fn one_service_builds_the_image_and_the_others_use_it() {
    let project = Project::load();
    let ours: Vec<_> = project.services().into_iter().filter(|service| service.is_ours()).collect();
    let images: BTreeSet<_> = ours.iter().map(|service| service.text("image")).collect();
    assert_eq!(images.len(), 1, "{images:?}");
    assert!(ours.iter().all(|service| service.text("pull_policy") == "never"), "it comes from no registry");
    let builders: Vec<_> = ours.iter().filter(|service| service.value["build"].is_object()).collect();
    assert!(builders.len() == 1 && builders[0].name == "worker", "what the plain `up` starts builds it");
    let build = &builders[0].value["build"];
    assert_eq!((build["context"].as_str(), build["dockerfile"].as_str()), (Some("."), Some("deploy/Dockerfile")));
}

/// The directories that the images of others declare as volumes.
const VOLUMES: [(&str, &str); 4] = [
    ("rabbitmq", "/var/lib/rabbitmq"),
    ("postgres", "/var/lib/postgresql/data"),
    ("prometheus", "/prometheus"),
    ("jaeger", "/tmp"),
];

#[test]
fn no_volume_without_a_name_is_left_behind() {
    let project = Project::load();
    for (service, directory) in VOLUMES {
        let service = project.service(service);
        let mounted = service.list("volumes").into_iter().any(|volume| {
            let mut parts = volume.split(':');
            let (source, target) = (parts.next().unwrap_or_default(), parts.next());
            target == Some(directory) && project.0["volumes"].get(source).is_some()
        });
        let in_memory = service.list("tmpfs").into_iter().any(|mount| mount.starts_with(&format!("{directory}:size=")));
        assert!(mounted || in_memory, "{}: {directory}", service.name);
    }
}

#[test]
fn the_admin_port_is_the_one_that_prometheus_and_the_health_check_ask() {
    let project = Project::load();
    let worker = project.service("worker");
    let port = AdminListen::DEFAULT.port();
    let listen: SocketAddr = worker.environment()["ONCEWARD_ADMIN_LISTEN"].parse().expect("an address");
    assert!(listen.ip().is_unspecified() && listen.port() == port, "others reach it: {listen}");
    assert_eq!(worker.ports(), [port]);
    assert_eq!(instruction("EXPOSE"), port.to_string());
    let discovery = &yaml("deploy/prometheus/prometheus.yml")["scrape_configs"][0]["dns_sd_configs"][0];
    assert_eq!((discovery["port"].as_u64(), discovery["names"][0].as_str()), (Some(port.into()), Some(worker.name)));
    let check = instruction("HEALTHCHECK");
    let command: Vec<String> = serde_json::from_str(check.split_once("CMD ").expect("a command").1).expect("a list");
    assert_eq!(command, ["onceward", "health"]);
    assert!(knows_variable(&help(&["health"]), "ONCEWARD_ADMIN_LISTEN"));
}

/// The service and the port that a URL names are those of the project.
fn leads_to_a_service(project: &Project, url: &str) -> Url {
    let url: Url = url.trim().parse().unwrap_or_else(|error| panic!("{url}: {error}"));
    let service = project.service(url.host_str().expect("a host"));
    let own: &[u16] = match service.name {
        "rabbitmq" => &[5672],
        "postgres" => &[5432],
        _ => &[],
    };
    let ports = [service.ports(), own.to_vec()].concat();
    assert!(url.port().is_some_and(|port| ports.contains(&port)), "{url}: {} has {ports:?}", service.name);
    url
}

#[test]
fn services_find_each_other() {
    let project = Project::load();
    for source in ["prometheus", "jaeger"] {
        let source = yaml(&format!("deploy/grafana/provisioning/datasources/{source}.yml"));
        leads_to_a_service(&project, source["datasources"][0]["url"].as_str().expect("a URL"));
    }
    let grafana = project.service("grafana").mounts();
    let provider = &yaml("deploy/grafana/provisioning/dashboards/onceward.yml")["providers"][0];
    let dashboards = format!("{}:ro", provider["options"]["path"].as_str().expect("a path"));
    assert!(grafana.contains(&("deploy/grafana/dashboards", dashboards.as_str())), "{grafana:?}");
    for service in ["worker", "demo"] {
        let environment = project.service(service).environment();
        let collector = leads_to_a_service(&project, environment["OTEL_EXPORTER_OTLP_ENDPOINT"]);
        // The port of OTLP over HTTP.
        assert_eq!((collector.port(), environment["OTEL_EXPORTER_OTLP_PROTOCOL"]), (Some(4318), "http/protobuf"));
    }
    let (demo, sink) = (project.service("demo").arguments(), project.service("sink").arguments());
    let url = leads_to_a_service(&project, flag(&demo, "--destination"));
    assert_eq!(flag(&sink, "--listen"), format!("0.0.0.0:{}", url.port().expect("just checked")));
    let verify = project.service("verify");
    let arguments = verify.arguments();
    assert_eq!((flag(&arguments, "--advertise"), flag(&arguments, "--listen")), (verify.text("hostname"), "0.0.0.0"));
}

/// The value of a flag, written as --flag=value.
fn flag<'a>(arguments: &[&'a str], name: &str) -> &'a str {
    let found = arguments.iter().find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("{name} is not in {arguments:?}"))
}

#[test]
fn verify_is_told_what_the_workers_are_told() {
    let project = Project::load();
    let verify = project.service("verify");
    assert!(verify.arguments().contains(&"--workers=0"));
    let known = help(&["verify"]);
    for (name, value) in project.service("worker").environment() {
        let Some(setting) = name.strip_prefix("ONCEWARD_") else { continue };
        let told = format!("--{}", setting.to_lowercase().replace('_', "-"));
        if knows_flag(&known, &told) && !setting.ends_with("_URL_FILE") {
            assert_eq!(flag(&verify.arguments(), &told), value);
        }
    }
    let report = flag(&verify.arguments(), "--report");
    assert!(verify.mounts().iter().any(|(_, to)| report.starts_with(to)), "{report} is not in a mounted directory");
}

/// The secrets that a directory of them holds fit each other, and what the services are told beside them.
fn secrets_fit(directory: &std::path::Path) {
    let project = Project::load();
    let secret = |name: &str| {
        let file = directory.join(std::path::Path::new(project.secret(name)).file_name().expect("a name"));
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display())).trim().to_owned()
    };
    let database = leads_to_a_service(&project, &secret("database_url"));
    assert_eq!(database.password(), Some(secret("postgres_password").as_str()));
    let postgres = project.service("postgres").environment();
    assert_eq!(
        (database.username(), database.path()),
        (postgres["POSTGRES_USER"], &*format!("/{}", postgres["POSTGRES_DB"]))
    );
    let broker = leads_to_a_service(&project, &secret("amqp_url"));
    let conf = secret("rabbitmq_conf");
    let told =
        |name: &str| conf.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = ")).expect("a setting");
    assert_eq!((broker.username(), broker.password()), (told("default_user"), Some(told("default_pass"))));
    assert!(!secret("grafana_password").is_empty());
}

#[test]
fn the_secrets_of_one_start_fit_each_other() {
    let development = path("deploy/compose/secrets/development");
    secrets_fit(&development);
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("secrets-{}", std::process::id()));
    let made = Command::new(path("deploy/secrets")).arg(&directory).output().expect("the script runs");
    assert!(made.status.success(), "{made:?}");
    secrets_fit(&directory);
    let names = |directory| {
        let entries = std::fs::read_dir(directory).expect("a directory");
        entries.map(|entry| entry.expect("an entry").file_name()).collect::<BTreeSet<_>>()
    };
    assert_eq!(names(&directory), names(&development));
    let conf = std::fs::read_to_string(directory.join("rabbitmq.conf")).expect("just made");
    assert!(!conf.contains("development"), "{conf}");
    let again = Command::new(path("deploy/secrets")).arg(&directory).output().expect("the script runs");
    assert!(!again.status.success(), "passwords that are in use are not overwritten");
    assert_eq!(std::fs::read_to_string(directory.join("rabbitmq.conf")).expect("still there"), conf);
    std::fs::remove_dir_all(&directory).expect("it is ours");
}

#[test]
fn workers_can_be_many_and_have_time_to_drain() {
    let project = Project::load();
    let worker = project.service("worker");
    assert!(worker.value.get("container_name").is_none() && worker.value.get("ports").is_none());
    assert!(worker.value["scale"].as_u64().is_some_and(|count| count > 1), "and they are, unless told otherwise");
    let drain = worker.environment()["ONCEWARD_DRAIN_TIME"];
    assert!(help(&["worker"]).contains(&format!("ONCEWARD_DRAIN_TIME=] [default: {drain}]")), "the usual time");
    let drain = humantime::parse_duration(drain).expect("a time");
    assert!(worker.time("stop_grace_period") >= drain + AFTER_THE_DRAIN);
    assert!(project.service("sink").time("stop_grace_period") > Duration::from_secs(10));
    assert_eq!(instruction("STOPSIGNAL"), "SIGTERM");
}

#[test]
fn only_this_machine_reaches_the_pages() {
    let project = Project::load();
    let ports: Vec<_> = project.services().into_iter().flat_map(|service| service.list("ports")).collect();
    assert!(ports.len() == 4 && ports.iter().all(|port| port.starts_with("127.0.0.1:")), "{ports:?}");
}

#[test]
fn every_port_of_this_machine_can_be_another() {
    let (project, file) = (Project::load(), read("docker-compose.yml"));
    for service in project.services() {
        for port in service.list("ports") {
            let own = port.rsplit(':').next().expect("a port");
            let variable = format!("ONCEWARD_{}_PORT", service.name.to_uppercase());
            let told = format!("ports: [\"127.0.0.1:${{{variable}:-{own}}}:{own}\"]");
            assert!(file.contains(&told), "{}: {port}", service.name);
            assert!(read("deploy/docs/compose.md").contains(&format!("`{variable}`")), "the page names {variable}");
        }
    }
}

#[test]
fn the_image_runs_as_nobody_in_particular_and_writes_nothing() {
    let project = Project::load();
    for service in project.services().into_iter().filter(|service| service.is_ours()) {
        assert!(service.value["read_only"] == true && service.list("cap_drop") == ["ALL"], "{}", service.name);
    }
    let user: Vec<u32> = instruction("USER").split(':').map(|id| id.parse().expect("a number")).collect();
    assert!(user.len() == 2 && user.iter().all(|id| *id > 0), "{user:?}");
    assert_eq!(instruction("ENTRYPOINT"), r#"["onceward"]"#);
}

#[test]
fn a_service_that_is_waited_for_can_say_that_it_is_there() {
    let project = Project::load();
    for service in project.services() {
        for (name, on) in service.value["depends_on"].as_object().into_iter().flatten() {
            let other = project.service(name);
            let checks = other.value["healthcheck"]["test"].is_array() || other.name == "worker";
            assert!(on["condition"] != "service_healthy" || checks, "{}: {name} has no health check", service.name);
            let (ours, theirs) = (service.list("profiles"), other.list("profiles"));
            let comes_along = theirs.is_empty() || (!ours.is_empty() && ours.iter().all(|ours| theirs.contains(ours)));
            assert!(comes_along, "{}: {name} is not started with it", service.name);
        }
    }
}

/// The number after some words of the README.
fn least(words: &str) -> Vec<u64> {
    let readme = read("README.md");
    let (_, rest) = readme.split_once(words).unwrap_or_else(|| panic!("the README does not say {words:?}"));
    version(rest.split_whitespace().next().expect("a version"))
}

#[test]
fn every_image_has_an_exact_version_that_is_new_enough() {
    let project = Project::load();
    let stages = stages();
    let is_stage = |name: &str| name == "scratch" || stages.iter().any(|(_, stage)| stage == name);
    let of_services = project.services().into_iter().map(|service| service.text("image"));
    let mut images: BTreeSet<&str> =
        stages.iter().map(|(from, _)| from.as_str()).filter(|from| !is_stage(from)).collect();
    images.extend(of_services);
    for image in &images {
        let (name, tag) = image.split_once(':').unwrap_or_else(|| panic!("{image} has no tag"));
        // PostgreSQL and Debian count in two numbers.
        let numbers = if ["postgres", "debian"].contains(&name) { 2 } else { 3 };
        assert_eq!(version(tag).len(), numbers, "{image}");
    }
    let tag = |name: &str| images.iter().find_map(|image| image.strip_prefix(name)?.strip_prefix(':')).expect(name);
    assert_eq!(tag("onceward"), env!("CARGO_PKG_VERSION"));
    assert!(instruction("LABEL").contains(&format!("version=\"{}\"", env!("CARGO_PKG_VERSION"))));
    assert!(version(tag("rabbitmq")) >= least("(RabbitMQ "), "as the README says");
    assert!(version(tag("postgres")) >= least("`, PostgreSQL "), "as the README says");
    let (needed, by) = least_rust();
    assert!(version(tag("rust")) >= needed, "{by} needs Rust {needed:?}");
    // What is built with one system's C library runs on the same.
    assert!(tag("rust").ends_with("-trixie") && version(tag("debian"))[0] == 13);
    assert_eq!(images.len(), 8, "each image in one version: {images:?}");
    let plugins = read("deploy/rabbitmq/enabled_plugins");
    assert!(plugins.contains("rabbitmq_consistent_hash_exchange") && plugins.trim_end().ends_with("]."), "{plugins}");
}

/// The least Rust that this crate and all that it is built from can do with, and which of them that is.
fn least_rust() -> (Vec<u64>, String) {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version=1", "--filter-platform=x86_64-unknown-linux-gnu"])
        .arg(format!("--manifest-path={}", path("Cargo.toml").display()))
        .output()
        .expect("cargo runs");
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages").iter();
    let needed = packages
        .filter_map(|package| Some((version(package["rust_version"].as_str()?), package["name"].as_str()?.to_owned())));
    needed.max().expect("some package says")
}
