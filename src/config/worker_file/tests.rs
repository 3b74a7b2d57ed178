//! Files of settings: what is taken from them, and what is refused.

use std::time::Duration;

use clap::builder::Resettable;
use clap::{CommandFactory as _, Subcommand};

use super::*;
use crate::config::reload::{AT_ONCE, changes, said};
use crate::config::{DatabaseArgs, admin_listen};

/// Commands that take a worker's settings, all or some.
#[derive(Debug, Parser)]
struct Program {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    Worker(Box<WorkerArgs>),
    Look {
        #[command(flatten)]
        database: DatabaseArgs,
        #[arg(long)]
        all: bool,
    },
    Far {
        #[command(subcommand)]
        below: Below,
    },
    Nothing {
        #[arg(long)]
        seed: Option<u64>,
    },
}

#[derive(Debug, Subcommand)]
enum Below {
    Ask {
        #[arg(long, value_parser = admin_listen)]
        admin_listen: Option<crate::config::AdminListen>,
    },
}

fn without_variables(command: Command) -> Command {
    command.mut_args(|arg| arg.env(Resettable::Reset)).mut_subcommands(without_variables)
}

/// A file in a directory of its own.
fn file(name: &str, text: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("onceward-settings-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let path = directory.join("o.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn parse_with(path: &Path, arguments: &[&str]) -> Result<(Program, Taken), String> {
    let config = ["--config".into(), path.as_os_str().to_owned()];
    let all: Vec<OsString> = ["onceward"].iter().chain(arguments).map(OsString::from).chain(config).collect();
    let command = without_variables(offer(Program::command()));
    parse_as(&command, &all).map_err(|wrong| wrong.to_string().replace(&path.display().to_string(), "FILE"))
}

/// The settings of a worker with this file and these flags.
fn worker(name: &str, text: &str, flags: &[&str]) -> Result<WorkerArgs, String> {
    let (program, taken) = parse_with(&file(name, text), &[&["worker"], flags].concat())?;
    let Sub::Worker(args) = program.command else { panic!("a worker was asked for") };
    args.validate().map_err(|wrong| taken.place(&wrong).replace(&file(name, text).display().to_string(), "FILE"))?;
    Ok(*args)
}

const SERVERS: &str = "amqp-url = 'amqp://u:hidden@broker'\ndatabase-url = 'postgres://u:hidden@db/o'\n";

#[test]
fn every_kind_of_value_is_taken_as_its_flag_takes_it() {
    let text = format!(
        "{SERVERS}host-connections = 0x1_0\nmax-attempts = '7'\nbackoff-factor = 1.5\nlease = '20s'\n\
         allow-net = ['10.0.0.0/8', '192.168.7.9']\nfinal-statuses = [400, '410-412']\nfirst-sequence = 1\n\
         admin-listen = 'off'\ndefault-destination = 'https://example.com/in'\nname = 'one'"
    );
    let args = worker("kinds", &text, &[]).unwrap();
    assert_eq!((args.host_connections, args.max_attempts, args.lease), (16, 7, Duration::from_secs(20)));
    assert_eq!(args.guard.allow_net.to_string(), "10.0.0.0/8,192.168.7.9/32");
    assert_eq!(args.final_statuses.0, [400, 410, 411, 412].into());
    let nodes = "amqp-url = ['amqp://one', 'amqp://two']\ndatabase-url = 'postgres://db/o'";
    assert_eq!(worker("nodes", nodes, &[]).unwrap().broker.amqp_url.all().len(), 2);
}

#[test]
fn a_flag_goes_before_the_file_also_where_one_names_a_value_and_the_other_the_file_that_holds_it() {
    let text = format!("{SERVERS}partitions = 8");
    let flags = ["--partitions=16", "--amqp-url-file=/nowhere/url"];
    let refused = worker("before", &text, &flags).unwrap_err();
    assert!(refused.starts_with("--amqp-url-file /nowhere/url: "), "{refused}");
    let args = worker("before", &text, &["--partitions=16", "--database-url=postgres://other/o?sslmode=disable"]);
    let args = args.unwrap();
    assert_eq!((args.partitions, args.database.database_url.to_string()), (16, "postgres://other/o".into()));
}

#[test]
fn paths_are_meant_from_where_the_file_is() {
    let path = file("paths", "amqp-url-file = 'broker'\ndatabase-url = 'postgres://db/o'\ndestinations = 'd.toml'");
    std::fs::write(path.with_file_name("broker"), "amqp://elsewhere\n").unwrap();
    let (program, _) = parse_with(&path, &["worker"]).unwrap();
    let Sub::Worker(args) = program.command else { panic!("a worker was asked for") };
    assert_eq!(args.broker.amqp_url.to_string(), "amqp://elsewhere");
    assert_eq!(args.destinations, Some(path.with_file_name("d.toml")));
}

#[test]
fn each_command_takes_what_it_knows_and_one_that_knows_nothing_has_no_such_flag() {
    let path = file("each", &format!("{SERVERS}admin-listen = '127.0.0.1:7'\npartitions = 8"));
    let (program, taken) = parse_with(&path, &["look", "--all"]).unwrap();
    assert!(
        matches!(program.command, Sub::Look { all: true, database } if database.database_url.reveal().contains("hidden"))
    );
    assert_eq!(taken.settings().map(|(key, _)| key).collect::<Vec<_>>(), ["database-url"]);
    let (program, _) = parse_with(&path, &["far", "ask"]).unwrap();
    assert!(matches!(program.command, Sub::Far { below: Below::Ask { admin_listen: Some(_) } }));
    let refused = parse_with(&path, &["nothing", "--seed=1"]).unwrap_err();
    assert!(refused.contains("unexpected argument '--config'"), "{refused}");
}

#[test]
fn what_is_wrong_in_a_file_is_told_in_one_line_with_its_place_and_what_to_write() {
    let table = [
        ("", "FILE: it is empty: write settings, such as host-connections = 50, or leave --config out"),
        ("a = 1\na = 2", "FILE:2:1: duplicate key"),
        ("partitions = 8\npartitions = 9", "FILE:2:1: duplicate key"),
        ("partitions = ", "FILE:1:1"),
        ("partitons = 8", "FILE:1:1: \"partitons\" is not a setting of a worker: did you mean partitions?"),
        (
            "\nhost_connections = 8",
            "FILE:2:1: \"host_connections\" is not a setting of a worker: did you mean host-connections?",
        ),
        ("zzz = 8", "FILE:1:1: \"zzz\" is not a setting of a worker: `onceward worker --help` lists them"),
        ("all = true", "FILE:1:1: \"all\" is not a setting of a worker"),
        ("config = 'x'", "FILE:1:1: \"config\": a file of settings names no other one"),
        ("log = 'debug'", "FILE:1:1: \"log\" is not a setting here: logs and traces are set by variables alone"),
        ("[defaults]\ntimeout = '1s'", "FILE:1:2: \"defaults\" belongs in a file of destinations"),
        ("[gate]\nfailures = 1", "FILE:1:2: \"gate\" is not a setting of a worker"),
        ("partitions.a = 1", "FILE:1:1: this is a table: settings stand one a line"),
        ("partitions = [8]", "FILE:1:14: this is a list, and partitions is one value"),
        ("allow-net = [['10.0.0.0/8']]", "FILE:1:13: this is a list in a list"),
        ("name = \"a\\u0000\"", "FILE:1:8: this text has a character \\u0000"),
        ("gone = \"\\u001b[31m\"", "FILE:1:8: invalid value '' for '--gone <GONE>'"),
        ("lease = 12:00:00", "FILE:1:9: this is a date or a time of day: write text in quotes"),
        ("partitions = 99999999999999999999", "FILE:1:"),
        ("partitions = 'abc'", "FILE:1:14: invalid value 'abc' for '--partitions <PARTITIONS>'"),
        ("partitions = '--lease'", "FILE:1:14: invalid value '--lease' for '--partitions <PARTITIONS>'"),
        (
            "max-attempts = 3.5",
            "FILE:1:16: invalid value '3.5' for '--max-attempts <MAX_ATTEMPTS>': write a whole number from 1 to 1000",
        ),
        ("signing-secrets = []", "FILE:1:19: this list is empty: leave signing-secrets out"),
        ("partitions = true", "FILE:1:14: invalid value 'true' for '--partitions <PARTITIONS>'"),
        ("\nlease = '7s'", "FILE:2:9: --lease is 7s: an attempt begins only if it ends within the lease"),
        ("gone = 'stop'", "FILE:1:8: invalid value 'stop' for '--gone <GONE>'"),
        ("signing-secrets = 'hidden'", "FILE:1:19: invalid value for '--signing-secrets <SECRETS>'"),
        ("signing-secrets-file = 'hidden-not'", "FILE:1:24: --signing-secrets-file "),
    ];
    for (number, (text, told)) in table.into_iter().enumerate() {
        let servers = ["--amqp-url=amqp://broker", "--database-url=postgres://db/o"];
        let refused = worker(&format!("wrong-{number}"), text, &servers).expect_err(text);
        assert!(refused.starts_with(told) && !refused.contains('\n'), "{text:?}\n{refused}\n{told}");
        assert!(!refused.contains("hidden'"), "{refused}");
    }
    let refused = worker("secret", "amqp-url = 'http://u:hidden@broker'", &[]).unwrap_err();
    assert!(
        refused.starts_with("FILE:1:12: invalid value for '--amqp-url") && !refused.contains("hidden"),
        "{refused}"
    );
    let many = worker("many", "a = 1\nb = 2\nc = 3", &[]).unwrap_err();
    assert!(many.ends_with("(and 2 more)"), "{many}");
}

#[test]
fn what_a_flag_overrides_is_judged_as_well_and_told_apart() {
    let servers = ["worker", "--amqp-url=amqp://broker", "--database-url=postgres://db/o", "--max-attempts=3"];
    let table = [
        ("amqp-url = 5", "FILE:1:12: invalid value for '--amqp-url"),
        ("max-attempts = 0", "FILE:1:16: invalid value '0' for '--max-attempts <MAX_ATTEMPTS>'"),
    ];
    for (number, (text, told)) in table.into_iter().enumerate() {
        let refused = parse_with(&file(&format!("overridden-{number}"), text), &servers).unwrap_err();
        assert!(refused.starts_with(told) && !refused.contains('\n'), "{text:?}\n{refused}");
    }
    let text = format!("{SERVERS}max-attempts = 9\ngone = 'pause'");
    let (_, taken) = parse_with(&file("overridden", &text), &servers).unwrap();
    let overridden: Vec<_> = taken.overridden().map(|(key, _)| key).collect();
    let settings: Vec<_> = taken.settings().map(|(key, _)| key).collect();
    assert_eq!((&overridden[..], &settings[..]), (&["amqp-url", "database-url", "max-attempts"][..], &["gone"][..]));
}

#[test]
fn a_file_that_can_t_be_read_is_told_in_one_line() {
    let path = file("unreadable", "x");
    let directory = path.parent().unwrap();
    let large = directory.join("large");
    std::fs::write(&large, "# much\n".repeat(200_000)).unwrap();
    let bytes = directory.join("bytes");
    std::fs::write(&bytes, [0xff, 0xfe]).unwrap();
    let table = [
        (directory, "this is a directory, not a file: name a file"),
        (&*large, "it is larger than 1048576 bytes"),
        (&*bytes, "it is not text in UTF-8: save it as UTF-8"),
        (Path::new("/nowhere/o.toml"), "No such file or directory"),
    ];
    for (path, told) in table {
        let refused = parse_with(path, &["worker"]).unwrap_err();
        assert!(refused.starts_with("FILE: ") && refused.contains(told) && !refused.contains('\n'), "{refused}");
    }
}

#[test]
fn what_is_taken_over_at_once_is_told_from_what_needs_a_restart_and_no_secret_is_shown() {
    let (_, before) = parse_with(
        &file("was", &format!("{SERVERS}lease = '20s'\nmax-attempts = 3\nsigning-secrets = 'whsec_aGlkZGVuLWhpZGRlbi1oaWRkZW4taGlkZGVu'")),
        &["worker"],
    )
    .unwrap();
    let (_, now) = parse_with(&file("is", "amqp-url = 'amqp://u:other@broker'\ndatabase-url = 'postgres://u:hidden@db/o'\nlease = '30s'\nmax-attempts = 4\ngone = 'pause'"), &["worker"]).unwrap();
    let changes = changes(&said(&before), &said(&now));
    let told: Vec<_> = changes.iter().map(|change| (change.to_string(), change.holds_at_once())).collect();
    let expected = [
        ("amqp-url: now (not shown), before (not shown)", false),
        ("gone: now pause, before not set", true),
        ("lease: now 30s, before 20s", false),
        ("max-attempts: now 4, before 3", true),
        ("signing-secrets: now not set, before (not shown)", true),
    ];
    assert_eq!(told, expected.map(|(text, at_once)| (text.to_owned(), at_once)));
}

#[test]
fn each_setting_that_is_taken_over_at_once_is_and_no_other_one() {
    let names = names();
    assert!(AT_ONCE.iter().all(|setting| names.iter().any(|name| name == setting)));
    let other = format!(
        "{SERVERS}lease = '20s'\nmax-attempts = 3\nmax-unknown-outcomes = 4\nbackoff-initial = '2s'\nbackoff-max = '30s'\n\
         backoff-factor = 3\nbackoff-jitter = 0\nretry-after-max = '2h'\nfinal-statuses = 410\non-exhausted = 'hold'\n\
         gate-failures = 9\ngate-probe-initial = '2s'\ngate-probe-max = '2min'\ngone = 'pause'\nattempt-timeout = '4s'"
    );
    let (running, new) = (worker("running", SERVERS, &[]).unwrap(), worker("new", &other, &[]).unwrap());
    let holds = running.taking_over(&new);
    assert_eq!(format!("{:?}", holds.policy()), format!("{:?}", new.policy()));
    assert_eq!(format!("{:?}", holds.gate), format!("{:?}", new.gate));
    assert_eq!((holds.lease, holds.attempt_timeout), (running.lease, running.attempt_timeout));
}
