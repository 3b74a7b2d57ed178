//! `onceward destinations check`, the sample of a file, and the page that explains it: without a worker.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use onceward::config::destinations::settings;
use rcgen::CertifiedKey;
use serde_json::Value;

const PAGE: &str = include_str!("../../deploy/docs/destinations.md");
const SAMPLE: &str = include_str!("../../deploy/examples/destinations.toml");

/// A directory of a test.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("onceward-check-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn with(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }

    /// Exit code, standard output, and standard error.
    fn check(&self, arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onceward"));
        command.args(["destinations", "check"]).args(arguments).current_dir(&self.0).env_clear();
        let output = command.envs(environment.iter().copied()).output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        (output.status.code().expect("a code"), text(&output.stdout), text(&output.stderr))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Every row of a table for people: setting, value, and where it comes from.
fn rows(shown: &str) -> Vec<[String; 3]> {
    let cells =
        |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect();
    shown.lines().filter_map(|line| Vec::try_into(cells(line)).ok()).collect()
}

#[test]
fn a_file_is_checked_as_a_worker_would_read_it() {
    let directory = Directory::new("rows");
    directory.with(
        "d.toml",
        "[defaults]\ntimeout = '4s'\n[names.billing]\nurl = 'https://u:hidden@example.com/'\n\
         [hosts.'*.example.com']\nrate = 100\nbackoff = ['1s', '1min']\n",
    );
    let (code, shown, _) = directory.check(&["d.toml"], &[]);
    assert_eq!((code, shown.lines().count()), (0, 1), "{shown}");
    assert!(shown.starts_with("d.toml: names: 1, patterns: 1; digest "), "{shown}");

    let flags = ["d.toml", "http://api.example.com/", "--max-attempts=7", "--amqp-url=amqp://a", "--partitions=2"];
    let (code, shown, _) = directory.check(&flags, &[("ONCEWARD_HOST_CONNECTIONS", "20"), ("ONCEWARD_AMQP_URL", "x")]);
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("http://api.example.com/: [hosts.\"*.example.com\"]\n"), "{shown}");
    for row in [
        ["connections", "20", "--host-connections"],
        ["rate", "100 a second", "[hosts.\"*.example.com\"], line 6"],
        ["timeout", "4s", "[defaults], line 2"],
        ["attempts", "7", "--max-attempts"],
        ["backoff.delays", "1s, 1m", "[hosts.\"*.example.com\"], line 7"],
        ["method", "POST", "default"],
    ] {
        assert!(rows(&shown).contains(&row.map(str::to_owned)), "{row:?} is not in {shown}");
    }

    let (code, json, _) = directory.check(&["d.toml", "billing", "--json"], &[]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, &json["entry"], &json["names"]), (0, &"[names.billing]".into(), &1.into()), "{json}");
    let url = &json["settings"][0];
    assert_eq!((&url["setting"], &url["line"]), (&"url".into(), &4.into()), "{json}");
    assert!(!json.to_string().contains("hidden"), "{json}");
}

#[test]
fn what_comes_from_a_file_or_a_variable_is_not_shown() {
    let directory = Directory::new("hidden");
    let entry = |name: &str, id: &str| {
        format!(
            "[names.{name}]\nurl = 'https://a/'\noauth2 = {{ token-url = 'https://t/', client-id = {id}, client-secret = 'hidden' }}\n"
        )
    };
    let ids = [("plain", "'shown'"), ("file", "{ file = 'id' }"), ("variable", "{ variable = 'ID' }")];
    directory.with("d.toml", &ids.map(|(name, id)| entry(name, id)).concat());
    directory.with("id", "hidden\n");
    for (name, client) in [("plain", "shown"), ("file", "(from id)"), ("variable", "(from the variable ID)")] {
        let (code, shown, told) = directory.check(&["d.toml", name], &[("ID", "hidden")]);
        assert_eq!((code, told.as_str()), (0, ""));
        assert!(shown.contains(&format!("{client} from https://t/")) && !shown.contains("hidden"), "{shown}");
    }
}

#[test]
fn what_is_wrong_is_said_whole_with_its_place() {
    let directory = Directory::new("wrong");
    directory.with("d.toml", "[defaults]\nrate = 0\nsecrets = ['hidden']\n");
    let (code, shown, told) = directory.check(&["d.toml"], &[]);
    assert_eq!((code, shown.as_str()), (1, ""));
    let places: Vec<_> = told.lines().map(|line| line.split(": ").next().expect("a place")).collect();
    assert_eq!(places, ["d.toml:2:8", "d.toml:3:12", "onceward"], "{told}");
    assert!(!told.contains("hidden"), "{told}");
    let (code, json, _) = directory.check(&["d.toml", "--json"], &[]);
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, json["complaints"].as_array().map(Vec::len)), (1, Some(2)), "{json}");

    directory.with("d.toml", "[names.a]\nurl = 'http://a'\n");
    let table: [(&[&str], i32, &str); 5] = [
        (&["nowhere.toml"], 1, "nowhere.toml: No such file"),
        (&["d.toml", "b"], 1, "no destination is called \"b\"; there are: a"),
        (&["d.toml", "ftp://a"], 2, "is not http or https"),
        (&["d.toml", "--lease=1s"], 2, "--lease is 1s"),
        (&[], 2, "not provided: <FILE>"),
    ];
    for (arguments, exit, wrong) in table {
        let (code, _, told) = directory.check(arguments, &[]);
        assert!(code == exit && told.contains(wrong), "{arguments:?}: {code} {told}");
    }
}

#[test]
fn the_sample_is_accepted_and_sets_everything() {
    let directory = Directory::new("sample");
    directory.with("destinations.toml", SAMPLE);
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".into()]).expect("a certificate");
    for name in ["internal-ca.pem", "tls/tls.crt"] {
        directory.with(name, &cert.pem());
    }
    directory.with("tls/tls.key", &signing_key.serialize_pem());
    for name in ["secrets/billing-old", "secrets/billing-new"] {
        directory.with(name, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
    }
    for name in ["secrets/partner-client", "secrets/stock-api-key"] {
        directory.with(name, "text\n");
    }
    let key = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg==";
    let mut set = BTreeSet::new();
    let entries = [
        ("billing", "[names.billing]"),
        ("partner", "[names.partner]"),
        ("https://a.internal.example.com/", "[hosts.\"*.internal.example.com\"]"),
        ("https://stock.internal.example.com:8443/", "[hosts.\"stock.internal.example.com:8443\"]"),
        ("https://example.com/", "[defaults]"),
    ];
    for (target, entry) in entries {
        let check = ["destinations.toml", target, "--json"];
        let (code, json, told) = directory.check(&check, &[("SIGNING_KEY", key)]);
        assert_eq!(code, 0, "{told}");
        let json: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(
            (&json["entry"], &json["names"], &json["patterns"]),
            (&entry.into(), &2.into(), &2.into()),
            "{json}"
        );
        let rows = json["settings"].as_array().expect("settings").iter();
        set.extend(
            rows.filter(|row| row["line"].is_u64()).map(|row| row["setting"].as_str().expect("a key").to_owned()),
        );
    }
    assert_eq!(set, settings().iter().map(|setting| setting.key.to_owned()).collect());
}

#[test]
fn the_page_names_every_setting_and_shows_the_sample() {
    for setting in settings() {
        assert!(PAGE.contains(&format!("| `{}` |", setting.key)), "the page has no row for {}", setting.key);
        let flag = setting.flag.unwrap_or_default();
        assert!(PAGE.contains(flag), "the page does not name {flag}");
    }
    assert!(PAGE.contains(&format!("```toml\n{SAMPLE}```\n")), "the page shows another sample");
    let targets = PAGE.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/docs");
    let missing: Vec<_> = targets.filter(|to| !to.starts_with("https://") && !docs.join(to).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
