//! The documentation as one whole: every link leads somewhere, every page is in the book, and the pages name settings,
//! commands and flags as the program has them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

mod commands;
mod markdown;
mod settings;

use markdown::Page;

/// The sources of the book: its table of contents, and links to the files where they are in the repository.
const BOOK: &str = "deploy/book/src";
/// What a stranger reads to the end.
const LONGEST_README: usize = 150;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page of the repository: README, changelog, and whatever is Markdown below `deploy`.
fn pages() -> Vec<Page> {
    let mut paths = vec![PathBuf::from("README.md"), PathBuf::from("CHANGELOG.md")];
    collect(Path::new("deploy"), &mut paths);
    paths.sort();
    let pages: Vec<_> = paths.iter().map(|path| Page::read(root(), path)).collect();
    assert!(pages.len() >= 16, "the pages were not found: {paths:?}");
    pages
}

/// The book's links to pages are not pages of their own, and what a user's build left in the examples is not ours.
fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(root().join(directory)).expect("a directory of the repository") {
        let entry = entry.expect("an entry");
        let path = directory.join(entry.file_name());
        let kind = entry.file_type().expect("its type");
        let name = entry.file_name();
        if kind.is_dir() && name != "node_modules" && name != "target" {
            collect(&path, paths);
        } else if kind.is_file() && path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
}

fn summary() -> Page {
    Page::read(root(), &Path::new(BOOK).join("SUMMARY.md"))
}

/// A path without `.` and `..`; none if it leads out of the repository.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir if !normal.pop() => return None,
            Component::CurDir | Component::ParentDir => {}
            other => normal.push(other),
        }
    }
    Some(normal)
}

/// What is wrong with a link of a page, if anything is.
fn broken(page: &Page, target: &str, anchors: &BTreeMap<PathBuf, BTreeSet<String>>) -> Option<String> {
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let directory = page.path.parent().expect("a file has a directory");
    let path = if file.is_empty() { Some(page.path.clone()) } else { normal(&directory.join(file)) };
    let Some(path) = path else { return Some("it leads out of the repository".into()) };
    if !root().join(&path).exists() {
        return Some(format!("there is no {}", path.display()));
    }
    // The book has the same paths, so that the same link leads to the same file there.
    if page.is_in_the_book() && !root().join(BOOK).join(&path).exists() {
        return Some(format!("{} is not in the book: name it without a link, or link it in {BOOK}", path.display()));
    }
    let anchor = anchor?;
    match anchors.get(&path) {
        None => Some(format!("{} is no page, and has no anchors", path.display())),
        Some(known) if known.contains(anchor) => None,
        Some(known) => Some(format!("{} has no heading with the anchor #{anchor}, but {known:?}", path.display())),
    }
}

#[test]
fn every_link_leads_to_a_file_and_an_anchor_that_exist() {
    let pages = pages();
    let anchors: BTreeMap<_, _> = pages.iter().map(|page| (page.path.clone(), page.anchors())).collect();
    let mut followed = 0;
    let mut findings = Vec::new();
    for page in pages.iter().filter(|page| page.path != summary().path) {
        for (line, target) in page.links() {
            if target.starts_with("https://") || target.starts_with("http://") {
                continue;
            }
            followed += 1;
            if let Some(why) = broken(page, &target, &anchors) {
                findings.push(format!("{}:{line}: the link to {target} is broken: {why}", page.path.display()));
            }
        }
    }
    assert!(followed >= 100, "only {followed} links were found");
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

#[test]
fn every_page_is_in_the_book_once() {
    let listed: Vec<_> = summary().links().into_iter().map(|(_, target)| target).collect();
    for target in &listed {
        assert!(root().join(BOOK).join(target).is_file(), "SUMMARY.md lists {target}, which is not in {BOOK}");
        let times = listed.iter().filter(|other| *other == target).count();
        assert_eq!(times, 1, "SUMMARY.md lists {target} more than once");
    }
    for page in pages().iter().filter(|page| page.is_in_the_book()) {
        let path = page.path.display().to_string();
        assert!(listed.contains(&path), "{path} is not in the book: list it in {BOOK}/SUMMARY.md");
    }
}

#[test]
fn the_readme_is_short() {
    let lines = Page::read(root(), Path::new("README.md")).text.lines().count();
    assert!(lines <= LONGEST_README, "README.md has {lines} lines, {LONGEST_README} at most: move some to deploy/docs");
}
