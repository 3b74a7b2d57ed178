//! Files of settings: what goes before what, and what a worker that runs takes over on SIGHUP.

use std::collections::BTreeMap;
use std::process::Command;

use clap::{Args as _, CommandFactory as _};
use onceward::cli::Cli;
use onceward::config::WorkerArgs;
use onceward::config::reload::AT_ONCE;

use crate::support::{
    DeadLetters, Load, Message, Producer, Receiver, Reply, SOON, SettingsFile, Worker, World, run_to_end_with, test,
};

const SAMPLE: &str = include_str!("../../deploy/examples/config.toml");

/// The lines of the sample that set something, without their #.
fn samples() -> BTreeMap<String, String> {
    let is_setting = |line: &str| line.split_once(" = ").is_some_and(|(key, _)| !key.contains([' ', '`', ':', ',']));
    let lines = SAMPLE.lines().filter_map(|line| line.strip_prefix("# ")).filter(|line| is_setting(line));
    let mut found = BTreeMap::new();
    for line in lines {
        let (key, value) = line.split_once(" = ").expect("just looked at");
        assert!(found.insert(key.to_owned(), value.to_owned()).is_none(), "{key} is in the sample twice");
    }
    found
}

#[test]
fn the_sample_has_every_setting_of_a_worker_once_and_shows_its_default() {
    let command = WorkerArgs::augment_args(clap::Command::new("worker"));
    let mut samples = samples();
    for arg in command.get_arguments() {
        let flag = arg.get_long().expect("every setting has a flag");
        let shown = samples.remove(flag).unwrap_or_else(|| panic!("{flag} is not in deploy/examples/config.toml"));
        let default = arg.get_default_values().first().and_then(|value| value.to_str());
        let plain = shown.trim_matches('"');
        match default {
            Some("") => assert_eq!(plain, "[]", "{flag}"),
            Some(default) => assert_eq!(plain, default, "{flag}"),
            None => {}
        }
    }
    assert!(samples.is_empty(), "no settings of a worker: {samples:?}");
}

/// What a command says with a file of settings and nothing else of an environment: exit code, and what it says.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onceward"));
    command.env_clear().args(arguments).envs(environment.iter().copied());
    let output = command.output().expect("the program runs");
    let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    (output.status.code().expect("a code"), text)
}

fn file(name: &str, text: &str) -> String {
    let path = format!("{}/settings-{name}.toml", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, text).expect("the file is written");
    path
}

#[test]
fn what_is_taken_over_at_once_is_on_the_page_about_settings() {
    let page = include_str!("../../deploy/docs/settings.md");
    let (_, page) = page.split_once("### Reload").expect("a section");
    let told = page.lines().find(|line| line.contains("hold at once")).expect("a line that lists them");
    for setting in AT_ONCE {
        assert!(told.contains(&format!("`{setting}`")), "{setting} is not in deploy/docs/settings.md");
    }
}

#[test]
fn the_sample_and_all_that_it_shows_are_settings_that_hold() {
    let (code, text) = run(&["worker", "--config", &file("sample", SAMPLE)], &[]);
    assert!(code == 2 && text.contains("--amqp-url"), "it sets nothing: {text}");
    // Files that are not there, and what excludes another.
    let others = ["-file", "client-", "destinations", "signing-secrets", "admin-listen"];
    let shown = samples().into_iter().filter(|(key, _)| !others.iter().any(|other| key.contains(other)));
    let all: String = shown.map(|(key, value)| format!("{key} = {value}\n")).collect();
    let destinations = file("none", "# nobody\n");
    let (code, text) = run(&["destinations", "check", &destinations, "--config", &file("all", &all)], &[]);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_flag_goes_before_a_variable_and_both_before_the_file() {
    let path = file("order", "admin-listen = '127.0.0.1:1'\n");
    let (by_variable, other) = (("ONCEWARD_CONFIG", &*path), ("ONCEWARD_ADMIN_LISTEN", "127.0.0.1:2"));
    let says = |arguments: &[&str], environment: &[(&str, &str)], told: &str| {
        let (_, text) = run(arguments, environment);
        assert!(text.contains(told), "{arguments:?} {environment:?}: {text}");
    };
    says(&["health", "--config", &path], &[], "127.0.0.1:1/");
    says(&["health"], &[by_variable], "127.0.0.1:1/");
    says(&["health"], &[by_variable, other], "127.0.0.1:2/");
    says(&["health", "--admin-listen=127.0.0.1:3"], &[by_variable, other], "127.0.0.1:3/");
    says(&["health", "--config", "/nowhere"], &[by_variable], "/nowhere: No such file");
}

#[test]
fn each_command_that_knows_a_setting_of_a_worker_takes_its_file() {
    let takes = |arguments: &[&str]| {
        let (code, text) = run(&[arguments, &["--help"]].concat(), &[]);
        assert_eq!(code, 0, "{text}");
        text.contains("--config <FILE>")
    };
    let with: [&[&str]; 8] = [
        &["worker"],
        &["publish"],
        &["status"],
        &["redrive"],
        &["pause"],
        &["resume"],
        &["destinations", "check"],
        &["verify"],
    ];
    assert!(with.iter().all(|command| takes(command)) && takes(&["health"]));
    assert!(!takes(&["sink"]) && !takes(&["report"]));
    assert!(Cli::command().get_arguments().all(|arg| arg.get_id() != "config"), "it is no flag of the program itself");
}

/// A pipe that nobody writes to.
fn pipe(name: &str) -> String {
    let path = format!("{}/settings-{name}.pipe", env!("CARGO_TARGET_TMPDIR"));
    let _ = std::fs::remove_file(&path);
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
    path
}

#[test]
fn a_pipe_or_a_device_is_refused_at_once_wherever_a_setting_names_a_file() {
    let pipe = pipe("blocks");
    let (broker, database) = ("--amqp-url=amqps://127.0.0.1:1", "--database-url=postgres://nobody@127.0.0.1:1/nothing");
    let is_refused = |arguments: &[&str], told: &str| {
        let (code, text) = run(&[&["worker"], arguments].concat(), &[]);
        assert!(code == 2 && text.contains(told), "{arguments:?}: {text}");
    };
    let is_pipe = format!("{pipe}: this is a pipe, not a file: name a file");
    is_refused(&[database, &format!("--amqp-url=amqps://127.0.0.1:1?cacertfile={pipe}")], &is_pipe);
    is_refused(&[database, &format!("--amqp-url-file={pipe}")], &is_pipe);
    is_refused(&[broker, &format!("--database-url-file={pipe}")], &is_pipe);
    for flag in ["--ca-file", "--signing-secrets-file", "--config", "--destinations"] {
        is_refused(&[broker, database, &format!("{flag}={pipe}")], &is_pipe);
    }
    let (certificate, key) = (format!("--client-certificate={pipe}"), format!("--client-key={pipe}"));
    is_refused(&[broker, database, &certificate, &key], &is_pipe);
    is_refused(&[broker, database, "--ca-file=/dev/zero"], "/dev/zero: this is a device, not a file: name a file");
    let (code, text) = run(&["report", &pipe], &[]);
    assert!(code == 1 && text.contains(&is_pipe), "{text}");
}

#[test]
fn flags_of_tls_that_neither_server_uses_are_refused_and_a_file_is_told_by_its_own_flag() {
    let is_refused = |arguments: &[&str], told: &str| {
        let (code, text) = run(&[&["worker"], arguments].concat(), &[]);
        assert!(code == 2 && text.starts_with(told) && text.trim().lines().count() == 1, "{arguments:?}: {text}");
    };
    let plain = ["--amqp-url=amqp://127.0.0.1:1", "--database-url=postgres://nobody@127.0.0.1:1/x?sslmode=disable"];
    let refused = |flags: &[&str], told| is_refused(&[&plain, flags].concat(), told);
    refused(&["--ca-file=any"], "onceward: --ca-file is used by neither server: --amqp-url is amqp://");
    refused(
        &["--client-certificate=any", "--client-key=any"],
        "onceward: --client-certificate is used by neither server",
    );
    let (broker, database) = ("--amqp-url=amqps://127.0.0.1:1", "--database-url=postgres://nobody@127.0.0.1:1/x");
    let nowhere = "onceward: invalid value for '--ca-file <FILE>': nowhere: No such file";
    is_refused(&[plain[0], database, "--ca-file=nowhere"], nowhere);
    is_refused(&[broker, plain[1], "--ca-file=nowhere"], nowhere);
    is_refused(
        &[broker, plain[1], "--client-certificate=nowhere", "--client-key=any"],
        "onceward: invalid value for '--client-certificate <FILE>': nowhere: No such file",
    );
    is_refused(
        &["--amqp-url=amqps://127.0.0.1:1?cacertfile=nowhere", database],
        "onceward: invalid value for '--amqp-url <URL>': nowhere: No such file",
    );
}

/// The servers of a world, and settings for tests.
fn settings(world: &World, more: &str) -> String {
    format!(
        "amqp-url = \"{}\"\ndatabase-url = \"{}\"\npartitions = 4\nattempt-timeout = '2s'\nlease = '3s'\n\
         admin-listen = '127.0.0.1:0'\nallow-net = ['127.0.0.0/8', '::1/128']\n{more}",
        world.amqp_url, world.database_url
    )
}

fn start_from(world: &World, file: &SettingsFile) -> Worker {
    Worker::run_in(world, &["worker", "--config", file.path()], &[("ONCEWARD_LOG_FORMAT", "text".into())])
}

#[test]
fn a_worker_takes_over_what_it_can_of_a_file_that_changes_and_says_what_needs_a_restart() {
    test(Load::Shared, async |world| {
        let receiver = Receiver::new(|_| Reply::status(500)).await;
        let file = SettingsFile::new(world, &settings(world, "max-attempts = 100\nbackoff-initial = '100ms'"));
        let worker = start_from(world, &file);
        worker.wait_for_line(SOON, "ready: consuming").await;
        let (code, text) = run_to_end_with(world, &["status", "--config", file.path()], &[]).await;
        assert_eq!(code, 0, "{text}");

        file.write(&settings(world, "max-attempts = 2\nbackoff-initial = '100ms'\nbody-limit = 2000"));
        worker.signal("HUP");
        worker.wait_for_line(SOON, "max-attempts: now 2, before 100; it holds from now on").await;
        worker.wait_for_line(SOON, "body-limit: now 2000, before not set; restart the worker").await;
        let dead_letters = DeadLetters::open(world).await;
        let producer = Producer::connect(world).await;
        producer.publish(&Message::new("user-1", "first", &receiver.url())).await;
        dead_letters.wait_for_key(SOON, "first").await;
        assert_eq!(receiver.attempts().len(), 2);

        file.write(&settings(world, "max-attemps = 3"));
        worker.signal("HUP");
        worker.wait_for_line(SOON, "is refused, and what held before goes on").await;
        worker.wait_for_line(SOON, "did you mean max-attempts?").await;
        producer.publish(&Message::new("user-1", "second", &receiver.url())).await;
        dead_letters.wait_for_key(SOON, "second").await;
        assert_eq!(receiver.attempts().len(), 4);
        worker.stop().await;
    });
}

#[test]
fn a_worker_says_what_of_its_file_has_no_effect_what_is_fixed_and_that_its_secrets_are_others() {
    test(Load::Shared, async |world| {
        let of_file =
            |failures| format!("gate-failures = {failures}\nbackoff-initial = '1s'\nsigning-secrets-file = 's'");
        let file = SettingsFile::new(world, &settings(world, &of_file(3)));
        let secrets = file.directory().join("s");
        std::fs::write(&secrets, "whsec_b25lLW9uZS1vbmUtb25lLW9uZS1vbmUtb25lLW9uZS0=").expect("the file is written");
        let arguments = ["worker", "--config", file.path(), "--gate-failures=7"];
        let environment =
            [("ONCEWARD_LOG_FORMAT", "text".to_owned()), ("ONCEWARD_BACKOFF_INITIAL", "500ms".to_owned())];
        let worker = Worker::run_in(world, &arguments, &environment);
        let told = format!("settings: backoff-initial, gate-failures in {}: overridden by flags or var", file.path());
        worker.wait_for_line(SOON, &told).await;
        worker.wait_for_line(SOON, "ready: consuming").await;

        std::fs::write(&secrets, "whsec_dHdvLXR3by10d28tdHdvLXR3by10d28tdHdvLXR3by0=").expect("the file is written");
        worker.signal("HUP");
        worker.wait_for_line(SOON, "signing-secrets-file holds other secrets now; they hold from now on").await;
        file.write(&settings(world, &of_file(4)).replace("partitions = 4", "partitions = 8"));
        worker.signal("HUP");
        worker.wait_for_line(SOON, "partitions: now 8, before 4; it is fixed at the first start: set it back").await;
        worker.wait_for_line(SOON, "gate-failures: now 4, before 3; it has no effect: a flag or a variable over").await;
        assert!(!worker.log().contains("whsec_d") && !worker.log().contains("says what it said"), "{}", worker.log());
        worker.stop().await;
    });
}

#[test]
fn no_command_that_runs_for_long_dies_of_sighup() {
    test(Load::Shared, async |world| {
        let nobody = "postgres://nobody@127.0.0.1:1/nothing";
        let waiting = Worker::spawn(world, &["--database-url", nobody]);
        waiting.wait_for_line(SOON, "the worker does not start yet").await;
        waiting.signal("HUP");
        waiting.wait_for_line(SOON, "SIGHUP: there is nothing that it would change").await;
        waiting.signal("TERM");
        assert_eq!(waiting.exit_code(SOON).await, 0);

        let sink = Worker::run(world, &["sink", "--listen", "127.0.0.1:0"]);
        sink.wait_for_line(SOON, "listening on").await;
        let worker = Worker::start(world, &["--drain-time", "20s"]).await;
        let verify = Worker::run(world, &["verify", "--events", "100", "--linger", "2s"]);
        // It says nothing before its end; this says that it is under way.
        worker.wait_for_line(SOON, "dead letter: ").await;
        for program in [&sink, &verify, &worker] {
            program.signal("HUP");
        }
        assert_eq!(verify.exit_code(SOON * 3).await, 0, "{}", verify.log());
        worker.stop().await;
        sink.signal("TERM");
        assert_eq!(sink.exit_code(SOON).await, 0, "{}", sink.log());
    });
}
