//! A file of settings: what is accepted are settings of a worker, and what is refused is one line.

use std::ffi::OsString;
use std::path::Path;

use onceward::cli::{self, Cli, Command};

use crate::engine::{Target, fuzz};

fn run(input: &[u8]) -> &'static str {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz-settings.toml");
    std::fs::write(&file, input).expect("a file");
    let name = file.display().to_string();
    let worker =
        ["onceward", "worker", "--amqp-url=amqp://broker", "--database-url=postgres://db/o", "--config", &name];
    match cli::read(&worker.map(OsString::from)) {
        Ok((Cli { command: Command::Worker(args) }, taken)) => {
            assert!(taken.file() == Some(&file) && args.host_connections >= 1, "{args:?}");
            assert!(args.validate().map_or_else(|wrong| is_line(&taken.place(&wrong)), |()| true));
            "taken"
        }
        Ok(_) => panic!("a worker was asked for"),
        Err(wrong) => {
            let wrong = wrong.to_string();
            assert!(wrong.starts_with(&name), "a place: {wrong:?}");
            assert!(is_line(&wrong));
            "refused"
        }
    }
}

fn is_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

#[test]
fn settings() {
    let words = &[
        "partitions = 8\n",
        "allow-net = ['10.0.0.0/8']\n",
        "signing-secrets = 'whsec_hunter2'\n",
        "amqp-url = 'amqp://u:hunter2@h'\n",
        "database-url = 'x'\n",
        "lease = '20s'\n",
        "final-statuses = [400]\n",
        "host-connections",
        "destinations = ''\n",
        "ca-file = '/nowhere'\n",
        "--lease",
        "[gate]\n",
        "0x7f",
        "1e999",
        "nan",
        "true",
        "'''",
        "\u{feff}",
        "1979-05-27",
        "99999999999999999999",
    ];
    fuzz(&Target { name: "settings", words, run });
}
