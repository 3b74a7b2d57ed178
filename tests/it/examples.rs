//! The page about producers and receivers tells of every example, and shows them as they are.

use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../deploy/docs/producers.md");

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

/// The programs below a directory; what a user's own build leaves there is not ours.
fn programs(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("a directory of examples") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() && !["node_modules", "target", "__pycache__"].contains(&name.as_str()) {
            programs(&path, found);
        } else if ["py", "js", "go", "java", "rs", "sql"].iter().any(|kind| name.ends_with(&format!(".{kind}"))) {
            found.push(path);
        }
    }
}

#[test]
fn the_page_links_to_every_example() {
    let mut found = Vec::new();
    programs(&deploy("examples"), &mut found);
    assert!(found.len() >= 9, "the examples were not found: {found:?}");
    for program in found {
        let path = program.strip_prefix(deploy("")).expect("it was found there").display().to_string();
        assert!(PAGE.contains(&format!("](../{path})")), "the page has no link to {path}");
    }
}

#[test]
fn the_links_of_the_page_lead_somewhere() {
    let targets = PAGE.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let targets = targets.filter(|target| !target.starts_with("https://") && !target.is_empty());
    let missing: Vec<_> = targets.filter(|target| !deploy("docs").join(target).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_program_that_the_page_shows_is_the_file() {
    let file = std::fs::read_to_string(deploy("examples/python/publish.py")).expect("the producer in Python");
    assert!(PAGE.contains(&format!("```python\n{file}```\n")), "deploy/docs/producers.md shows another publish.py");
}

#[test]
fn the_arguments_of_the_page_are_those_of_every_producer() {
    for path in ["python/publish.py", "node/publish.js", "go/publish.go", "java/Publish.java", "rust/publish.rs"] {
        let text = std::fs::read_to_string(deploy("examples").join(path)).expect("a producer");
        assert!(text.contains("ENTITY KEY SEQUENCE DESTINATION BODY"), "{path}");
    }
}
