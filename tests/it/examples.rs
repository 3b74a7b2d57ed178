//! The pages about producers and receivers tell of every example, and show them as they are.

use std::path::{Path, PathBuf};

const PAGE: &str = include_str!("../../deploy/docs/producers.md");
const RECIPES: &str = include_str!("../../deploy/docs/recipes.md");

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
fn the_pages_link_to_every_example() {
    let mut found = Vec::new();
    programs(&deploy("examples"), &mut found);
    assert!(found.len() >= 9, "the examples were not found: {found:?}");
    for program in found {
        let path = program.strip_prefix(deploy("")).expect("it was found there").display().to_string();
        let link = format!("](../{path})");
        assert!(PAGE.contains(&link) || RECIPES.contains(&link), "no page has a link to {path}");
    }
}

#[test]
fn the_program_that_the_page_shows_is_the_file() {
    let file = std::fs::read_to_string(deploy("examples/python/publish.py")).expect("the producer in Python");
    assert!(PAGE.contains(&format!("```python\n{file}```\n")), "deploy/docs/producers.md shows another publish.py");
}

#[test]
fn the_arguments_of_the_page_are_those_of_every_producer() {
    let producers = ["python/publish.py", "node/publish.js", "go/publish.go", "java/Publish.java", "rust/publish.rs"];
    let recipes = ["celery/publish.py", "celery/tasks.py", "spring/Publish.java", "masstransit/publish.py"];
    for path in producers.iter().chain(&recipes) {
        let text = std::fs::read_to_string(deploy("examples").join(path)).expect("a producer");
        assert!(text.contains("ENTITY KEY SEQUENCE DESTINATION BODY"), "{path}");
    }
}
