//! Statements: each has a file of its own, stands once, and names what the schema has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use onceward::store;
use onceward::store::sql::ALL;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _, SqlSafeStr as _};

use crate::support::{Load, test};

const LONGEST_LINE: usize = 120;
/// What statements share, below the directory of statements.
const FRAGMENTS: &str = "fragments/";

/// Every file of SQL that the program sends: its path below the directory of statements without the ending, and its text.
fn files() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/sql");
    let mut files = BTreeMap::new();
    for directory in fs::read_dir(&root).expect("the directory of statements") {
        let directory = directory.expect("an entry").path();
        for file in fs::read_dir(&directory).expect("statements are below a module") {
            let path = file.expect("an entry").path();
            let name = path.strip_prefix(&root).expect("it was found below").to_string_lossy().replace('\\', "/");
            let name = name.strip_suffix(".sql").unwrap_or_else(|| panic!("{name} is no statement")).to_owned();
            files.insert(name, fs::read_to_string(&path).expect("a statement is text"));
        }
    }
    files
}

/// What the server is asked, without comments and white space.
fn bare(statement: &str) -> String {
    let lines = statement.lines().map(|line| line.split("--").next().unwrap_or_default());
    lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_schema_has_what_every_statement_names() {
    test(Load::Shared, async |world| {
        let mut connection = PgConnection::connect(&world.database_url).await.expect("the database answers");
        store::migrate(&mut connection).await.expect("the migrations");
        let mut refused = Vec::new();
        for (name, statement) in ALL.iter().copied() {
            if let Err(error) = connection.prepare(statement.into_sql_str()).await {
                refused.push(format!("{name}: {error}"));
            }
        }
        assert!(refused.is_empty(), "\n{}\n", refused.join("\n"));
    });
}

#[test]
fn every_file_is_a_statement_or_a_part_of_several() {
    let (fragments, statements): (Vec<_>, Vec<_>) =
        files().into_iter().partition(|(name, _)| name.starts_with(FRAGMENTS));
    let in_files: BTreeSet<&str> = statements.iter().map(|(name, _)| name.as_str()).collect();
    let in_list: BTreeSet<&str> = ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(in_files, in_list, "each file of a statement is named in store::sql");
    for (name, fragment) in fragments {
        let uses = ALL.iter().filter(|(_, statement)| statement.contains(&fragment)).count();
        assert!(uses >= 2, "{name} is a part of {uses} statements");
    }
}

#[test]
fn no_statement_stands_twice() {
    let mut seen = BTreeMap::new();
    for (name, statement) in ALL {
        if let Some(first) = seen.insert(bare(statement), name) {
            panic!("{first} and {name} are the same");
        }
    }
}

#[test]
fn every_file_says_what_it_is_for_in_lines_that_can_be_read() {
    for (name, text) in files() {
        assert!(text.starts_with("-- "), "{name} begins by saying what it is for: `-- …`");
        assert!(text.ends_with('\n'), "{name} ends with its last line");
        let long = text.lines().find(|line| line.chars().count() > LONGEST_LINE || line.trim_end() != *line);
        assert_eq!(long, None, "{name} has a line that is too long, or ends with spaces");
    }
}
