//! The pages on Docker Compose and on the image: their commands name services, profiles, flags and targets that there are,
//! and their links lead to them.

use std::collections::BTreeSet;

use super::project::{Project, dockerfile, help, knows_flag, knows_variable, path, read, stages};

const PAGE: &str = "deploy/docs/compose.md";

/// The flags of Docker Compose's commands that the page uses; those with a value take it as the next word.
const COMPOSE_FLAGS: [(&str, &[&str]); 6] = [
    ("up", &["--build", "--detach", "--no-recreate", "--force-recreate", "--no-deps", "--scale"]),
    ("ps", &[]),
    ("run", &["--rm"]),
    ("exec", &[]),
    ("logs", &["--follow"]),
    ("down", &["--volumes"]),
];

/// The lines of the page's blocks of commands, and the commands in its sentences.
fn commands() -> Vec<String> {
    let page = read(PAGE);
    let blocks = page.split("```").skip(1).step_by(2);
    let lines = blocks.flat_map(|block| block.strip_prefix("sh\n").expect("a block of commands").lines());
    let among_words = page.split('`').filter(|text| text.starts_with("docker compose "));
    lines.chain(among_words).map(ToOwned::to_owned).collect()
}

/// A command of Docker Compose, taken apart.
struct Parts<'a> {
    command: &'a str,
    /// Services that it names, and what each `--scale` names.
    services: Vec<&'a str>,
    /// What runs in the service, or its arguments.
    rest: Vec<&'a str>,
}

fn take_apart(line: &str) -> Parts<'_> {
    let mut words = line.split(' ').peekable();
    if words.next_if_eq(&"--profile").is_some() {
        assert_eq!(words.next(), Some("'*'"), "every profile");
    }
    let command = words.next().expect("a command");
    let (_, flags) = COMPOSE_FLAGS.iter().find(|(name, _)| *name == command).unwrap_or_else(|| panic!("{line}"));
    let mut services = Vec::new();
    while let Some(flag) = words.next_if(|word| word.starts_with("--")) {
        assert!(flags.contains(&flag), "{flag}: {line}");
        if flag == "--scale" {
            let (service, count) = words.next().and_then(|word| word.split_once('=')).expect("a service and a number");
            assert!(count.parse::<u8>().is_ok_and(|count| count > 0), "{line}");
            services.push(service);
        }
    }
    if ["run", "exec"].contains(&command) {
        services.push(words.next().expect("a service"));
        return Parts { command, services, rest: words.collect() };
    }
    services.extend(words);
    Parts { command, services, rest: Vec::new() }
}

#[test]
fn every_command_of_the_page_names_what_there_is() {
    let project = Project::load();
    let commands = commands();
    let mut used = BTreeSet::new();
    for line in commands.iter().filter_map(|line| line.strip_prefix("docker compose ")) {
        let parts = take_apart(line);
        used.insert(parts.command);
        for name in &parts.services {
            project.service(name);
        }
        let arguments = match (parts.command, parts.rest.split_first()) {
            ("run", _) => [&project.service(parts.services[0]).arguments()[..1], &parts.rest[..]].concat(),
            ("exec", Some((&"onceward", arguments))) => arguments.to_vec(),
            _ => continue,
        };
        let help = help(&arguments[..1]);
        for flag in arguments.iter().filter(|word| word.starts_with("--")) {
            let flag = flag.split('=').next().unwrap_or_default();
            assert!(knows_flag(&help, flag), "{line}: {} has no {flag}", arguments[0]);
        }
    }
    assert_eq!(used, COMPOSE_FLAGS.iter().map(|(name, _)| *name).collect(), "the commands that the test knows");
    for line in commands.iter().filter(|line| !line.starts_with("docker compose ")) {
        let command = line.split(' ').next().unwrap_or_default();
        assert!(command == "echo" || path(command).exists(), "{line}");
    }
}

#[test]
fn every_link_and_name_of_the_page_is_right() {
    let (project, page) = (Project::load(), read(PAGE));
    let told: BTreeSet<&str> = page.split("<http://localhost:").skip(1).filter_map(|rest| rest.get(..5)).collect();
    let told: BTreeSet<&str> = told.into_iter().map(|port| port.trim_end_matches(['/', '>'])).collect();
    let published = project.services();
    let published = published.iter().flat_map(|service| service.list("ports"));
    assert_eq!(told, published.filter_map(|port| port.rsplit(':').next()).collect());
    let dashboard: serde_json::Value =
        serde_json::from_str(&read("deploy/grafana/dashboards/onceward.json")).expect("JSON");
    assert!(page.contains(&format!("/d/{}>", dashboard["uid"].as_str().expect("a uid"))));
    for name in ["grafana_password", "rabbitmq.conf"] {
        assert!(page.contains(&format!("`{name}`")) && path("deploy/compose/secrets/development").join(name).exists());
    }
    for name in ["ONCEWARD_AMQP_URL_FILE", "ONCEWARD_DATABASE_URL_FILE", "ONCEWARD_HOST_CONNECTIONS"] {
        assert!(page.contains(name) && knows_variable(&help(&["worker"]), name), "{name}");
    }
    for name in ["ONCEWARD_SECRETS", "ONCEWARD_WORKERS", "ONCEWARD_GRAFANA_PORT"] {
        let is_read = read("docker-compose.yml").contains(&format!("${{{name}:-"));
        assert!(is_read && page.contains(&format!("echo {name}=")), "{name}");
    }
    let name = project.0["name"].as_str().expect("a name");
    assert!(page.contains(&format!("`{name}_default`")), "the network's name");
    let verify = project.service("verify");
    let (reports, _) = verify.mounts()[0];
    assert!(page.contains(&format!("`{reports}/report.json`")));
}

#[test]
fn the_page_about_the_image_names_targets_and_architectures_that_the_dockerfile_has() {
    let page = read("deploy/docs/image.md");
    let builds: Vec<_> = page.lines().filter(|line| line.contains(" build ") && line.ends_with(" .")).collect();
    let after =
        |line: &str, flag: &str| line.split_once(flag).and_then(|(_, rest)| rest.split(' ').next()).map(String::from);
    assert!(builds.len() >= 5 && builds.iter().all(|line| line.contains("--file deploy/Dockerfile ")), "{builds:#?}");
    let named: BTreeSet<_> = builds.iter().filter_map(|line| after(line, "--target ")).collect();
    let exported = stages().into_iter().filter(|(from, _)| from == "scratch").map(|(_, stage)| stage);
    assert_eq!(named, exported.collect(), "each is told");
    let known = dockerfile().into_iter().find(|(_, rest)| rest.contains("case $TARGETARCH in")).expect("a choice").1;
    for rest in page.split("linux/").skip(1) {
        let architecture = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        assert!(known.contains(&format!(" {architecture}) machine=")), "{architecture}: {known}");
    }
    assert!(page.contains("`--ca-file`") && knows_flag(&help(&["worker"]), "--ca-file"));
}
