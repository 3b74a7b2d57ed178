//! The commands and flags that the pages name are those of the program and of its scripts.

use std::collections::BTreeSet;
use std::fs;

use clap::Command;
use clap::error::ErrorKind;
use onceward::cli;

use super::markdown::Page;
use super::{pages, root};

/// The simple commands of a shell script, word by word: quotes are taken off, comments, assignments and redirections left out.
fn simple_commands(script: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let (mut word, mut quote) = (None::<String>, None);
    let mut chars = script.chars().peekable();
    let end_word = |word: &mut Option<String>, commands: &mut Vec<Vec<String>>, ends: bool| {
        let command = commands.last_mut().expect("there is one");
        if let Some(word) = word.take() {
            let assigns = command.is_empty() && word.split_once('=').is_some_and(|(name, _)| is_variable(name));
            if !assigns && !word.starts_with(['>', '<']) {
                command.push(word);
            }
        }
        if ends {
            commands.push(Vec::new());
        }
    };
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('\\', None) if chars.next_if_eq(&'\n').is_some() => {}
            ('#', None) if word.is_none() => while chars.next_if(|c| *c != '\n').is_some() {},
            ('\n' | ';' | '|' | '&', None) => end_word(&mut word, &mut commands, true),
            (c, None) if c.is_whitespace() => end_word(&mut word, &mut commands, false),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    end_word(&mut word, &mut commands, true);
    commands.retain(|command| !command.is_empty());
    commands
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The arguments of `onceward` in a simple command: by itself, behind a `--`, or in a container of docker-compose.yml.
fn of_onceward(command: &[String]) -> Option<Vec<&str>> {
    let words: Vec<_> = command.iter().map(String::as_str).collect();
    match words[..] {
        ["onceward", ..] | ["docker", "compose", "exec", _, "onceward", ..] => {
            let at = words.iter().position(|word| *word == "onceward").expect("it was matched");
            Some(words[at + 1..].to_vec())
        }
        ["docker", "compose", "run", "--rm", "verify", ref arguments @ ..] => Some([&["verify"], arguments].concat()),
        _ => {
            let at = words.windows(2).position(|pair| pair == ["--", "onceward"])?;
            Some(words[at + 2..].to_vec())
        }
    }
}

/// What the program says to such arguments; what an environment would add may be missing.
fn refusal(arguments: &[&str]) -> Option<String> {
    // PID stands for a number.
    let arguments = arguments.iter().map(|argument| argument.replace("=PID", "=1"));
    // The files that it would read are not there: the command line alone is judged.
    let error = cli::command().try_get_matches_from(["onceward".to_owned()].into_iter().chain(arguments)).err()?;
    let fine = [ErrorKind::MissingRequiredArgument, ErrorKind::DisplayHelp, ErrorKind::DisplayVersion];
    (!fine.contains(&error.kind())).then(|| error.to_string().lines().next().unwrap_or_default().to_owned())
}

#[test]
fn the_programs_that_the_pages_tell_to_run_are_there_and_understand_it() {
    let (mut run, mut findings) = (0, Vec::new());
    for page in pages() {
        for block in page.blocks().into_iter().filter(|block| block.language == "sh") {
            for command in simple_commands(&block.text) {
                let place = format!("{}:{}: `{}`", page.path.display(), block.line, command.join(" "));
                if let Some(arguments) = of_onceward(&command) {
                    run += 1;
                    findings.extend(refusal(&arguments).map(|why| format!("{place}: onceward says: {why}")));
                }
                // Where a command of the repository's own stands first, or behind sudo and the like.
                let script = command.iter().find(|word| word.starts_with("deploy/"));
                if let Some(missing) = script.filter(|script| !root().join(script).exists()) {
                    findings.push(format!("{place}: there is no {missing}"));
                }
            }
        }
    }
    assert!(run >= 12, "only {run} commands were found");
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

fn collect<'a>(command: &'a Command, commands: &mut BTreeSet<&'a str>, flags: &mut BTreeSet<String>) {
    commands.insert(command.get_name());
    flags.extend(command.get_arguments().filter_map(|argument| argument.get_long()).map(|long| format!("--{long}")));
    command.get_subcommands().for_each(|command| collect(command, commands, flags));
}

/// What the scripts of `deploy`, the benchmark and the simulator take: the flags in their text, and their arguments' fields.
fn flags_of_scripts() -> BTreeSet<String> {
    let mut flags = BTreeSet::new();
    for directory in ["deploy", "tests/bench", "tests/simulate"] {
        for entry in fs::read_dir(root().join(directory)).expect("a directory of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_file() {
                let text = fs::read_to_string(path).expect("text");
                let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
                flags.extend(words.filter(|word| word.starts_with("--")).map(ToOwned::to_owned));
                let fields = text.lines().filter_map(|line| line.trim().trim_start_matches("pub ").split_once(": "));
                flags.extend(fields.map(|(name, _)| format!("--{}", name.replace('_', "-"))));
            }
        }
    }
    flags
}

/// The words of code in a sentence, such as of `onceward redrive KEY…`.
fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split([' ', '=', ',', '(', ')']).filter(|word| !word.is_empty())
}

#[test]
fn the_commands_and_flags_that_the_pages_name_are_there() {
    let mut cli = cli::command();
    cli.build();
    let (mut commands, mut flags) = (BTreeSet::new(), BTreeSet::new());
    collect(&cli, &mut commands, &mut flags);
    flags.append(&mut flags_of_scripts());
    let (mut named, mut findings) = (0, Vec::new());
    for page in pages() {
        for (line, code) in page.codes() {
            let place = format!("{}:{line}: `{code}`", page.path.display());
            let command = code.strip_prefix("onceward ").and_then(|rest| words(rest).next());
            for word in words(code) {
                named += 1;
                if command == Some(word) && !commands.contains(word) && !is_name_of_a_connection(&page, word) {
                    findings.push(format!("{place}: onceward has no command {word:?}"));
                }
                // `cargo install` and the like have flags of their own.
                let is_ours = code.starts_with("onceward") || code.starts_with("--") || code.starts_with("deploy/");
                if is_ours && word.len() > 2 && word.starts_with("--") && !flags.contains(word) {
                    findings.push(format!("{place}: neither onceward nor a script has a flag {word}"));
                }
            }
        }
    }
    assert!(named >= 500, "only {named} words of code were found");
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

/// What administrators see of connections begins with the program's name, too.
fn is_name_of_a_connection(page: &Page, word: &str) -> bool {
    page.path.ends_with("servers.md") && ["consumer", "publisher", "look"].contains(&word)
}

#[test]
fn a_shell_script_is_read_as_a_shell_would() {
    let script = "export A=1 # what comes `here`\nB='2 3' onceward publish --body '{\"a\": 1}' \\\n  --key=k >file | cat & deploy/x\n";
    let commands = simple_commands(script);
    let wanted: [&[&str]; 4] =
        [&["export", "A=1"], &["onceward", "publish", "--body", "{\"a\": 1}", "--key=k"], &["cat"], &["deploy/x"]];
    assert_eq!(commands, wanted);
    assert_eq!(of_onceward(&commands[1]).map(|arguments| arguments.len()), Some(4));
    let in_a_pod = simple_commands("kubectl -n onceward exec deployment/onceward-worker -- onceward status\n");
    assert_eq!(of_onceward(&in_a_pod[0]), Some(vec!["status"]));
    assert_eq!(refusal(&["status", "--json"]), None);
    assert!(refusal(&["status", "--jsn"]).is_some_and(|why| why.contains("--jsn")));
}
