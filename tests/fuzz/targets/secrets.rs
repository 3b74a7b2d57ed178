//! Secrets that requests are signed with, as a setting and as a file.

use std::path::Path;

use clap::Parser as _;
use onceward::config::SigningArgs;
use onceward::domain::signature::SigningSecrets;

use super::SECRET;
use crate::engine::{Target, fuzz};

#[derive(Debug, clap::Parser)]
struct Settings {
    #[command(flatten)]
    signing: SigningArgs,
}

fn run(input: &[u8]) -> &'static str {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fuzz-secrets");
    std::fs::write(&file, input).expect("a file");
    let flag = format!("--signing-secrets-file={}", file.display());
    let from_file = Settings::try_parse_from(["onceward", &flag]).map_err(|error| error.to_string());
    unseen(&format!("{from_file:?}"));
    let Ok(text) = std::str::from_utf8(input) else {
        assert!(from_file.is_err(), "a file that is no text");
        return "no_text";
    };
    let secrets = text.parse::<SigningSecrets>();
    unseen(&format!("{secrets:?}"));
    let is_line = !text.trim().contains('\n');
    assert_eq!(from_file.is_ok(), secrets.is_ok() && is_line, "{from_file:?}, {secrets:?}");
    let Ok(secrets) = secrets.map_err(|error| unseen(&error.to_string())) else { return "refused" };
    let count = text.split_whitespace().count();
    let signed = secrets.sign(&"key".into(), 1, b"body").expect("secrets sign");
    let signed = signed.to_str().expect("signatures are text");
    let is_signature =
        |one: &&str| (one.starts_with("v1,") && one.len() == 47) || (one.starts_with("v1a,") && one.len() == 92);
    assert_eq!(signed.split(' ').filter(is_signature).count(), count, "{signed}");
    if !is_line {
        "lines"
    } else if count == 1 {
        "one"
    } else {
        "some"
    }
}

fn unseen(told: &str) {
    assert!(!told.contains(SECRET), "a secret is shown: {told}");
}

#[test]
fn secrets() {
    let words = &[
        "whsec_",
        "whsk_",
        "whpk_",
        "6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbc=",
        "=",
        "==",
        " ",
        "\n",
        SECRET,
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "\u{feff}",
        "\u{a0}",
        "\\0",
    ];
    fuzz(&Target { name: "secrets", words, run });
}
