//! docker-compose.yml, the Dockerfile and what they name, read as Docker does.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// A file of the repository.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

pub fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&interpolated(&read(name))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// With `${VARIABLE:-default}` replaced by the default, as where the variable is not set.
fn interpolated(text: &str) -> String {
    let mut parts = text.split("${");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (variable, rest) = part.split_once('}').expect("a variable ends");
        let (_, default) = variable.split_once(":-").unwrap_or_else(|| panic!("{variable} has no default"));
        text + default + rest
    })
}

/// What `onceward COMMAND --help` says, in one line.
pub fn help(command: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_onceward")).args(command).arg("--help").env_clear().output();
    let text = String::from_utf8(output.expect("the program starts").stdout).expect("text");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a help knows a variable.
pub fn knows_variable(help: &str, name: &str) -> bool {
    // A secret's value is not shown, and so no equals sign.
    [format!("[env: {name}="), format!("[env: {name}]")].iter().any(|text| help.contains(text))
}

/// Whether a help knows a flag.
pub fn knows_flag(help: &str, flag: &str) -> bool {
    help.split([' ', ',']).any(|word| word == flag)
}

/// The project.
pub struct Project(pub Value);

/// A service of it.
#[derive(Clone, Copy)]
pub struct Service<'a> {
    pub name: &'a str,
    pub value: &'a Value,
}

impl Project {
    pub fn load() -> Self {
        Self(yaml("docker-compose.yml"))
    }

    pub fn services(&self) -> Vec<Service<'_>> {
        let services = self.0["services"].as_object().expect("services");
        services.iter().map(|(name, value)| Service { name, value }).collect()
    }

    pub fn service(&self, name: &str) -> Service<'_> {
        let found = self.services().into_iter().find(|service| service.name == name);
        found.unwrap_or_else(|| panic!("no service is called {name}"))
    }

    /// The file of a secret, with passwords for development.
    pub fn secret(&self, name: &str) -> &str {
        let file = self.0["secrets"][name]["file"].as_str();
        file.unwrap_or_else(|| panic!("no secret is called {name}")).trim_start_matches("./")
    }
}

impl<'a> Service<'a> {
    pub fn text(self, field: &str) -> &'a str {
        self.value[field].as_str().unwrap_or_else(|| panic!("{} has no {field}", self.name))
    }

    /// A list of texts; none where the field is missing.
    pub fn list(self, field: &str) -> Vec<&'a str> {
        let items = self.value[field].as_array().into_iter().flatten();
        items.map(|item| item.as_str().unwrap_or_else(|| panic!("{} {field}: {item}", self.name))).collect()
    }

    pub fn is_ours(self) -> bool {
        self.text("image").starts_with("onceward:")
    }

    /// The arguments that the program gets.
    pub fn arguments(self) -> Vec<&'a str> {
        let entrypoint = self.list("entrypoint");
        assert!(entrypoint.is_empty() || entrypoint[0] == "onceward", "{}: {entrypoint:?}", self.name);
        entrypoint.into_iter().skip(1).chain(self.list("command")).collect()
    }

    pub fn environment(self) -> BTreeMap<&'a str, &'a str> {
        let variables = self.value["environment"].as_object().into_iter().flatten();
        variables
            .map(|(name, value)| (name.as_str(), value.as_str().unwrap_or_else(|| panic!("{name} is not a text"))))
            .collect()
    }

    /// What is mounted from the repository: its path there, and where.
    pub fn mounts(self) -> Vec<(&'a str, &'a str)> {
        let volumes = self.list("volumes").into_iter();
        volumes.filter_map(|volume| volume.strip_prefix("./")?.split_once(':')).collect()
    }

    /// The secrets by the paths at which they are mounted.
    pub fn secrets(self) -> BTreeMap<String, &'a str> {
        let secrets = self.value["secrets"].as_array().into_iter().flatten();
        secrets
            .map(|secret| match secret.as_str() {
                Some(name) => (format!("/run/secrets/{name}"), name),
                None => {
                    (secret["target"].as_str().expect("a target").into(), secret["source"].as_str().expect("a source"))
                }
            })
            .collect()
    }

    /// Ports that are there for other services, or for this machine's user.
    pub fn ports(self) -> Vec<u16> {
        let ports = self.list("expose").into_iter().chain(self.list("ports"));
        ports.map(|port| port.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")).collect()
    }

    /// A time, such as 45s.
    pub fn time(self, field: &str) -> std::time::Duration {
        humantime::parse_duration(self.text(field)).expect("a time")
    }
}

/// The Dockerfile: its instructions, with lines that go on put together.
pub fn dockerfile() -> Vec<(String, String)> {
    let text = read("deploy/Dockerfile").replace("\\\n", " ");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = |line: &str| {
        let (instruction, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no instruction: {line}"));
        (instruction.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    lines.map(split).collect()
}

/// What a stage of the Dockerfile is made from, and its name: empty for the last one, which is the image.
pub fn stages() -> Vec<(String, String)> {
    let from = dockerfile().into_iter().filter(|(instruction, _)| instruction == "FROM").map(|(_, rest)| rest);
    from.map(|rest| {
        let words: Vec<_> = rest.split(' ').filter(|word| !word.starts_with("--")).collect();
        (words[0].to_owned(), words.get(2).copied().unwrap_or_default().to_owned())
    })
    .collect()
}

/// The last of an instruction in the Dockerfile, and so the one that holds.
pub fn instruction(name: &str) -> String {
    let found = dockerfile().into_iter().rfind(|(instruction, _)| instruction == name);
    found.unwrap_or_else(|| panic!("the Dockerfile has no {name}")).1
}

/// The numbers of a version, such as those of `v3.13.5`, `1.99.1-slim-trixie` or `4.3.6-management`.
pub fn version(text: &str) -> Vec<u64> {
    let numbers = text.trim_start_matches('v').split('-').next().unwrap_or_default();
    numbers.split('.').map(|number| number.parse().unwrap_or_else(|_| panic!("{text} is no version"))).collect()
}
