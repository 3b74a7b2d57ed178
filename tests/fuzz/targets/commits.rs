//! What a client says to PostgreSQL, on a link of `verify` that loses commits.

use onceward::commands::verify::link::frontend::Frontend;

use crate::engine::{Target, fuzz};

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

/// Where commits end, with all bytes at hand. The first messages have no type, as long as they are not of protocol 3.
fn commits(bytes: &[u8]) -> Vec<usize> {
    let (mut at, mut started, mut commits) = (0, false, Vec::new());
    while let Some(head) = bytes.get(at..at + if started { 5 } else { 8 }) {
        let length = if started { number(&head[1..]) + 1 } else { number(&head[..4]) };
        if (started && length < 5) || (!started && !(8..=10_000).contains(&length)) {
            break;
        }
        let body = bytes.get(at + head.len()..at + length);
        let text = body.map(|body| body.strip_suffix(b"\0").unwrap_or(body).to_ascii_lowercase());
        at += length;
        if started && head[0] == b'Q' && text.is_some_and(|text| text == b"commit" || text == b"commit and chain") {
            commits.push(at);
        }
        started = started || number(&head[4..6]) == 3;
    }
    commits
}

/// The first byte says in what pieces the others come.
fn run(input: &[u8]) -> &'static str {
    let Some((size, bytes)) = input.split_first() else { return "empty" };
    let mut pieces = fastrand::Rng::with_seed(u64::from(*size));
    let (mut frontend, mut left, mut at, mut begun, mut found) = (Frontend::new(), bytes, 0, 0, Vec::new());
    while !left.is_empty() {
        let (mut piece, rest) = left.split_at(left.len().min(pieces.usize(1..=1 << (size % 12))));
        left = rest;
        while !piece.is_empty() {
            let (said, rest) = frontend.hear(piece);
            assert_eq!([said.bytes, rest].concat(), piece, "nothing is lost");
            at += said.bytes.len();
            if let Some(transaction) = said.commit {
                assert_eq!(transaction, (at - begun) as u64);
                begun = at;
                found.push(at);
            }
            piece = rest;
        }
    }
    assert_eq!(found, commits(bytes), "commits");
    if found.is_empty() { "none" } else { "commits" }
}

#[test]
fn commits_of_a_session() {
    let words = &[
        "Q\0\0\0\x0bcommit\0",
        "Q\0\0\0\x15commit and chain\0",
        "\0\0\0\x08\x04\x16\x2f",
        "\0\0\0\x09\0\x03\0\0\0",
        "S\0\0\0\x04",
    ];
    fuzz(&Target { name: "commits", words, run });
}
