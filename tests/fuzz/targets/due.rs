//! Messages of a due queue: tokens of the delay ladder, and operators' decisions.

use onceward::broker::delay::Due;

use crate::engine::{Target, fuzz};

fn run(input: &[u8]) -> &'static str {
    let Some(due) = Due::read(input) else { return "nothing" };
    assert_eq!(Due::read(due.write().as_bytes()), Some(due), "what was read is written, and read again");
    match due {
        Due::Wake(_) => "wake",
        Due::Redrive(_) => "redrive",
        Due::Skip(_) => "skip",
    }
}

#[test]
fn due() {
    fuzz(&Target { name: "due", words: &["wake ", "redrive ", "skip ", " 7", "+"], run });
}
