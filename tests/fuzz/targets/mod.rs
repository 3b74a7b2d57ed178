//! What is fuzzed: one test for each, and how it reads its input.

mod answer;
mod args;
mod commits;
mod contract;
mod destinations;
mod due;
mod letter;
mod properties;
mod publish;
mod secrets;
mod settings;
mod traces;
mod urls;

/// Stands where a secret stands, and must not be seen anywhere.
const SECRET: &str = "hunter2";

/// A part of an input that is text: two characters stand for a byte that would end the part.
fn text(part: &[u8]) -> String {
    String::from_utf8_lossy(part).replace("\\n", "\n").replace("\\r", "\r").replace("\\0", "\0").replace("\\t", "\t")
}

/// An input's lines, as text; those that it has not are empty.
fn lines<const COUNT: usize>(input: &[u8]) -> [String; COUNT] {
    let mut lines = input.splitn(COUNT, |byte| *byte == b'\n').map(text);
    std::array::from_fn(|_| lines.next().unwrap_or_default())
}

/// As much of a text as AMQP's short strings hold.
fn short(text: &str) -> &str {
    let mut end = text.len().min(255);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
