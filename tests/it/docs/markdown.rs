//! As much of Markdown as the pages use: fenced blocks, code, links and headings.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A page of the documentation.
pub struct Page {
    /// Its path in the repository.
    pub path: PathBuf,
    pub text: String,
}

/// A fenced block: its first line's number, its language, and its text.
pub struct Block<'a> {
    pub line: usize,
    pub language: &'a str,
    pub text: String,
}

impl Page {
    pub fn read(root: &Path, path: &Path) -> Self {
        let text =
            std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path: path.to_owned(), text }
    }

    /// README, changelog and the pages of `deploy/docs` are.
    pub fn is_in_the_book(&self) -> bool {
        let directory = self.path.parent().expect("a file has a directory");
        directory == Path::new("") || directory == Path::new("deploy/docs")
    }

    /// Its lines with their numbers, and the fence that each is in, if it is in one: fences themselves are left out.
    fn lines(&self) -> Vec<(usize, Option<&str>, &str)> {
        let mut fence = None;
        let mut lines = Vec::new();
        for (at, line) in self.text.lines().enumerate() {
            match (line.trim_start().strip_prefix("```"), fence) {
                (Some(language), None) => fence = Some(language),
                (Some(_), Some(_)) => fence = None,
                (None, _) => lines.push((at + 1, fence, line)),
            }
        }
        assert!(fence.is_none(), "{}: a fenced block does not end", self.path.display());
        lines
    }

    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().into_iter().filter(|(_, fence, _)| fence.is_none()).map(|(at, _, line)| (at, line))
    }

    pub fn blocks(&self) -> Vec<Block<'_>> {
        let mut blocks: Vec<Block<'_>> = Vec::new();
        let mut last = 0;
        for (line, fence, text) in self.lines() {
            let Some(language) = fence else { continue };
            if line != last + 1 || blocks.is_empty() {
                blocks.push(Block { line, language, text: String::new() });
            }
            let block = blocks.last_mut().expect("it was pushed");
            block.text += text;
            block.text += "\n";
            last = line;
        }
        blocks
    }

    /// What stands between backticks, with its line.
    pub fn codes(&self) -> Vec<(usize, &str)> {
        self.prose().flat_map(|(at, line)| codes(line).map(move |code| (at, code))).collect()
    }

    /// The targets of its links, with their lines; code has none.
    pub fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (at, line) in self.prose() {
            let line = without_codes(line);
            let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
            links.extend(targets.map(|target| (at, target.to_owned())));
            if let Some((_, target)) = line.split_once("]: ").filter(|_| line.starts_with('[')) {
                links.push((at, target.trim().to_owned()));
            }
        }
        links
    }

    /// The anchors of its headings, by the rule that code hosts and mdbook share.
    pub fn anchors(&self) -> BTreeSet<String> {
        let mut times = BTreeMap::new();
        let headings = self.prose().filter_map(|(_, line)| heading(line));
        let anchor = |heading: &str| {
            let slug = slug(heading);
            let before = times.entry(slug.clone()).and_modify(|times| *times += 1).or_insert(0);
            if *before == 0 { slug } else { format!("{slug}-{before}") }
        };
        headings.map(anchor).collect()
    }
}

fn heading(line: &str) -> Option<&str> {
    let text = line.trim_start_matches('#');
    let depth = line.len() - text.len();
    (1..=6).contains(&depth).then(|| text.strip_prefix(' ')).flatten()
}

/// Letters, digits, `-` and `_` stay, spaces become `-`, and all else goes. Of a link, the text alone counts.
fn slug(heading: &str) -> String {
    let mut text = String::new();
    let mut rest = heading.trim();
    while let Some((before, after)) = rest.split_once("](") {
        text += before;
        rest = after.split_once(')').map_or("", |(_, after)| after);
    }
    text += rest;
    let keep = |c: char| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    };
    text.to_lowercase().chars().filter_map(keep).collect()
}

fn codes(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

fn without_codes(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

#[test]
fn markdown_is_read_as_it_is_shown() {
    let text = "# One: `two`, and [three](five.md)\n## Same\n## Same\n\
        A [link](a.md#b), `[no](link)`, ![picture](c.png) and `x`.\n[ref]: d.md\n\
        ```sh\n# no heading [no](link)\nls `pwd`\n```\n";
    let page = Page { path: "deploy/docs/page.md".into(), text: text.into() };
    assert_eq!(page.anchors().into_iter().collect::<Vec<_>>(), ["one-two-and-three", "same", "same-1"]);
    let links = [(1, "five.md"), (4, "a.md#b"), (4, "c.png"), (5, "d.md")].map(|(at, target)| (at, target.to_owned()));
    assert_eq!(page.links(), links);
    assert_eq!(page.codes(), [(1, "two"), (4, "[no](link)"), (4, "x")]);
    let blocks = page.blocks();
    assert_eq!((blocks.len(), blocks[0].line, blocks[0].language), (1, 7, "sh"));
    assert_eq!(blocks[0].text, "# no heading [no](link)\nls `pwd`\n");
}
