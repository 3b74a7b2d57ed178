//! What a client says to PostgreSQL, as far as it takes to see its commits (PostgreSQL, chapter "Frontend/Backend Protocol").

/// A first message that is longer is none of this protocol, but TLS or another server's.
const LONGEST_START: u32 = 10_000;
/// Protocol 3.x, as the first message of a session says it. What else can come first is answered outside of a session.
const PROTOCOL: u32 = 3;
/// The simple query's type.
const QUERY: u8 = b'Q';
/// A query that is longer is no commit.
const LONGEST_COMMIT: u32 = 40;

/// Follows one connection, message by message, in whatever pieces they come. It keeps a message's head, and of the text of
/// a query only what may be a commit.
pub struct Frontend {
    state: State,
    /// The first messages have no type.
    has_started: bool,
    /// Bytes since the last commit.
    bytes: u64,
}

enum State {
    /// A message's type and length, as far as they have come.
    Head(Vec<u8>),
    /// So many bytes of a message are left.
    Body { left: usize, kept: Option<Vec<u8>> },
    /// Not understood, and passed on.
    Strange,
}

impl Default for Frontend {
    fn default() -> Self {
        Self::new()
    }
}

/// A part of what was said.
#[derive(Debug, PartialEq, Eq)]
pub struct Said<'a> {
    /// The part: up to the end of a commit, or all that there is.
    pub bytes: &'a [u8],
    /// It ends with a commit, of a transaction of so many bytes.
    pub commit: Option<u64>,
}

impl Frontend {
    /// From the connection's first byte on.
    #[must_use]
    pub fn new() -> Self {
        Self { state: State::Head(Vec::new()), has_started: false, bytes: 0 }
    }

    /// The first part of a piece, and the rest of it.
    pub fn hear<'a>(&mut self, piece: &'a [u8]) -> (Said<'a>, &'a [u8]) {
        let mut at = 0;
        while at < piece.len() {
            let (taken, is_commit) = self.step(&piece[at..]);
            at += taken;
            self.bytes += taken as u64;
            if is_commit {
                let (bytes, rest) = piece.split_at(at);
                return (Said { bytes, commit: Some(std::mem::take(&mut self.bytes)) }, rest);
            }
        }
        (Said { bytes: piece, commit: None }, &[])
    }

    /// Takes some bytes, of one message at most: how many, and whether they end a commit.
    fn step(&mut self, bytes: &[u8]) -> (usize, bool) {
        match &mut self.state {
            State::Strange => (bytes.len(), false),
            State::Head(head) => {
                let length = if self.has_started { 5 } else { 8 };
                let taken = bytes.len().min(length - head.len());
                head.extend_from_slice(&bytes[..taken]);
                if head.len() == length {
                    let head = std::mem::take(head);
                    self.state = if self.has_started { body(&head) } else { self.start(&head) };
                }
                // A message without a body is over with its head.
                self.end_message();
                (taken, false)
            }
            State::Body { left, kept } => {
                let taken = bytes.len().min(*left);
                *left -= taken;
                if let Some(kept) = kept {
                    kept.extend_from_slice(&bytes[..taken]);
                }
                (taken, self.end_message())
            }
        }
    }

    /// The first message: its length and what it asks for. Until the session begins, another first message follows.
    fn start(&mut self, head: &[u8]) -> State {
        let (length, code) = (number(&head[..4]), number(&head[4..]));
        self.has_started = code >> 16 == PROTOCOL;
        if (8..=LONGEST_START).contains(&length) {
            State::Body { left: length as usize - 8, kept: None }
        } else {
            State::Strange
        }
    }

    /// Waits for the next message, if this one is over. Whether it was a commit.
    fn end_message(&mut self) -> bool {
        let State::Body { left: 0, kept } = &mut self.state else { return false };
        let is_commit = kept.take().is_some_and(|text| is_commit(&text));
        self.state = State::Head(Vec::new());
        is_commit
    }
}

/// What follows a message's type and length.
fn body(head: &[u8]) -> State {
    let Some(left) = number(&head[1..]).checked_sub(4) else { return State::Strange };
    let may_commit = head[0] == QUERY && left <= LONGEST_COMMIT;
    State::Body { left: left as usize, kept: may_commit.then(Vec::new) }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// Whether the text of a query, which ends with a zero byte, is a commit.
fn is_commit(text: &[u8]) -> bool {
    let text = text.strip_suffix(b"\0").unwrap_or(text).to_ascii_lowercase();
    matches!(text.as_slice(), b"commit" | b"commit and chain")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("a short message");
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    fn start(code: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 8).expect("a short message");
        [&length.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
    }

    const SSL_REQUEST: u32 = 80_877_103;
    const VERSION_3_0: u32 = 3 << 16;

    /// What a client says, and where each commit ends.
    fn session() -> (Vec<u8>, Vec<usize>) {
        let large = b"commit\0".repeat(6_000);
        let parts = [
            (start(SSL_REQUEST, b""), false),
            (start(VERSION_3_0, b"user\0worker\0\0"), false),
            (message(b'p', b"password\0"), false),
            (message(b'Q', b"begin\0"), false),
            (message(b'P', b"commit\0"), false),
            (message(b'B', &large), false),
            (message(b'S', b""), false),
            (message(b'Q', b"commit and chain\0"), true),
            (message(b'Q', b"COMMIT\0"), true),
            (message(b'Q', b"commit prepared 'x'\0"), false),
            (message(b'Q', &large), false),
            (message(b'S', b""), false),
            (message(b'Q', b"commit\0"), true),
            (message(b'X', b""), false),
        ];
        let (mut bytes, mut commits) = (Vec::new(), Vec::new());
        for (part, is_commit) in parts {
            bytes.extend_from_slice(&part);
            if is_commit {
                commits.push(bytes.len());
            }
        }
        (bytes, commits)
    }

    /// Where commits end, if the bytes come in pieces of this size; each is told how large its transaction was.
    fn commits(bytes: &[u8], size: usize) -> Vec<usize> {
        let (mut frontend, mut at, mut begun, mut commits) = (Frontend::new(), 0, 0, Vec::new());
        for mut piece in bytes.chunks(size) {
            while !piece.is_empty() {
                let (said, rest) = frontend.hear(piece);
                at += said.bytes.len();
                if let Some(transaction) = said.commit {
                    assert_eq!(transaction, (at - begun) as u64, "the bytes since the last commit");
                    begun = at;
                    commits.push(at);
                }
                piece = rest;
            }
        }
        assert_eq!(at, bytes.len(), "nothing is kept back");
        commits
    }

    #[test]
    fn commits_are_seen_in_pieces_of_any_size() {
        let (bytes, expected) = session();
        for size in [1, 2, 3, 5, 7, 64, 1_000, 16_384, bytes.len()] {
            assert_eq!(commits(&bytes, size), expected, "pieces of {size}");
        }
    }

    #[test]
    fn what_is_not_this_protocol_has_no_commits() {
        let query = message(b'Q', b"commit\0");
        let tls = [&start(SSL_REQUEST, b"")[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", &query].concat();
        let amqp = [&b"AMQP\0\0\x09\x01"[..], &query].concat();
        let wrong = [&start(VERSION_3_0, b"\0")[..], b"Q\0\0\0\x03", &query].concat();
        for bytes in [tls, amqp, wrong] {
            assert_eq!(commits(&bytes, 3), [0; 0], "{bytes:?}");
        }
    }

    #[test]
    fn no_message_is_kept() {
        let (bytes, _) = session();
        let mut frontend = Frontend::new();
        for piece in bytes.chunks(100) {
            let mut piece = piece;
            while !piece.is_empty() {
                piece = frontend.hear(piece).1;
                if let State::Head(kept) | State::Body { kept: Some(kept), .. } = &frontend.state {
                    assert!(kept.len() <= LONGEST_COMMIT as usize, "{} bytes are kept", kept.len());
                }
            }
        }
    }
}
