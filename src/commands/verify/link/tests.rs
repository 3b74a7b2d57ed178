//! A link to a server that is none: it says what it hears, and answers as the test wants it.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Commit, Link, Lost, Then, Which};

const SOON: Duration = Duration::from_secs(20);
/// PostgreSQL's protocol: a start without parameters, an empty Sync, and commits.
const START: &[u8] = b"\0\0\0\x09\0\x03\0\0\0";
const SYNC: &[u8] = b"S\0\0\0\x04";
const COMMIT: &[u8] = b"Q\0\0\0\x0bcommit\0";
const ANSWER: &[u8] = b"done";

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("it comes soon")
}

struct Ends {
    link: Link,
    server: TcpListener,
}

impl Ends {
    async fn new() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("postgres://{}", server.local_addr().expect("a bound port"));
        Self { link: Link::to(&url).await.expect("a link"), server }
    }

    async fn client(&self) -> TcpStream {
        within(TcpStream::connect(self.link.address)).await.expect("the link listens")
    }

    /// Both ends of a connection on which a session has begun.
    async fn session(&self) -> (TcpStream, TcpStream) {
        let mut client = self.client().await;
        let (mut server, _) = within(self.server.accept()).await.expect("a connection");
        client.write_all(START).await.expect("the link takes it");
        hears(&mut server, START).await;
        (client, server)
    }
}

async fn hears(end: &mut TcpStream, expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    within(end.read_exact(&mut heard)).await.expect("bytes come");
    assert_eq!(heard, expected);
}

/// Everything up to the end, however it ends.
async fn hears_to_the_end(mut end: TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    let _ = within(end.read_to_end(&mut heard)).await;
    heard
}

#[tokio::test]
async fn a_commit_takes_place_and_its_answer_is_lost_with_the_connection() {
    let ends = Ends::new().await;
    let (mut client, mut server) = ends.session().await;
    ends.link.on_commits(Which::Any, [Commit::Lose(Lost::Answer, Then::Reset(Duration::ZERO))]);
    client.write_all(&[SYNC, COMMIT].concat()).await.unwrap();
    hears(&mut server, &[SYNC, COMMIT].concat()).await;
    assert_eq!(ends.link.lost_commits(), 0, "not before it has taken place");
    server.write_all(ANSWER).await.unwrap();
    within(ends.link.until_lost(1)).await;
    assert_eq!(hears_to_the_end(client).await, b"");
    assert_eq!(hears_to_the_end(server).await, b"");

    let (mut client, mut server) = ends.session().await;
    client.write_all(COMMIT).await.unwrap();
    hears(&mut server, COMMIT).await;
    server.write_all(ANSWER).await.unwrap();
    hears(&mut client, ANSWER).await;
}

#[tokio::test]
async fn a_commit_is_lost_before_it_takes_place() {
    let ends = Ends::new().await;
    let (mut client, server) = ends.session().await;
    ends.link.on_commits(Which::Any, [Commit::Lose(Lost::Request, Then::Reset(Duration::ZERO))]);
    // The last bytes of a message make it one.
    client.write_all(&[SYNC, &COMMIT[..7]].concat()).await.unwrap();
    client.write_all(&COMMIT[7..]).await.unwrap();
    within(ends.link.until_lost(1)).await;
    let heard = hears_to_the_end(server).await;
    assert!(heard.len() < SYNC.len() + COMMIT.len(), "{heard:?}");
    assert_eq!(hears_to_the_end(client).await, b"");
}

#[tokio::test]
async fn a_link_is_cut_at_a_commit_until_it_is_healed() {
    let ends = Ends::new().await;
    let (mut client, mut server) = ends.session().await;
    let (other, mut others_server) = ends.session().await;
    ends.link.on_commits(Which::With(b"event-7"[..].into()), [Commit::Lose(Lost::Answer, Then::Cut)]);
    client.write_all(COMMIT).await.unwrap();
    hears(&mut server, COMMIT).await;
    server.write_all(ANSWER).await.unwrap();
    hears(&mut client, ANSWER).await;

    let meant = [b"X\0\0\0\x0bevent-7", COMMIT].concat();
    client.write_all(&meant).await.unwrap();
    hears(&mut server, &meant).await;
    server.write_all(ANSWER).await.unwrap();
    within(ends.link.until_lost(1)).await;
    // Nobody is told that the server gave up, nor does anything come through on another connection, or a new one.
    drop(server);
    others_server.write_all(ANSWER).await.unwrap();
    let mut late = ends.client().await;
    late.write_all(START).await.unwrap();
    for end in [&client, &other, &late] {
        let silent = tokio::time::timeout(Duration::from_millis(50), end.peek(&mut [0])).await;
        assert!(silent.is_err(), "the link is cut");
    }
    ends.link.heal();
    assert_eq!(hears_to_the_end(client).await, b"");
    assert_eq!(hears_to_the_end(other).await, b"");
    let (mut server, _) = within(ends.server.accept()).await.expect("the connection that waited");
    hears(&mut server, START).await;
}
