//! Receivers whose answers or connections end otherwise than in the book.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Database, Load, Message, Producer, SOON, Worker, World, asking, test};

/// What a receiver does after a request.
#[derive(Clone, Copy)]
struct Manner {
    answer: &'static str,
    /// Closes the connection so long after the answer; never, without.
    closes: Option<Duration>,
}

/// A receiver by hand: it reads a request with a body of two bytes, and answers. Gives its URL, and how many requests it got.
async fn receiver(manner: Manner) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let url = format!("http://{}/", listener.local_addr().expect("a bound port"));
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, manner, Arc::clone(&counted)));
        }
    });
    (url, requests)
}

async fn serve(mut stream: TcpStream, manner: Manner, requests: Arc<AtomicUsize>) {
    let (mut read, mut buffer) = (Vec::new(), [0; 4_096]);
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        read.extend_from_slice(&buffer[..count]);
        if !read.ends_with(b"\r\n\r\n{}") {
            continue;
        }
        read.clear();
        requests.fetch_add(1, Ordering::SeqCst);
        if stream.write_all(manner.answer.as_bytes()).await.is_err() {
            return;
        }
        if let Some(after) = manner.closes {
            tokio::time::sleep(after).await;
            return;
        }
    }
}

/// Sends events one after the other: each is received once, and delivered by its first attempt.
async fn all_are_delivered_at_once(world: &World, manner: Manner, events: usize) {
    let (url, requests) = receiver(manner).await;
    let worker = Worker::start(world, &[]).await;
    let (producer, database) = (Producer::connect(world).await, Database::connect(world).await);
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    for n in 0..events {
        let key = format!("event-{host}-{n}");
        producer.publish(&Message::new("user", &key, &url).body("{}")).await;
        let has_ended = async || {
            let mut events = database.events().await.into_iter();
            events
                .find(|event| event.idempotency_key == key && !["PENDING", "IN_FLIGHT"].contains(&event.state.as_str()))
        };
        let event = asking(SOON, "the end of an attempt", has_ended).await;
        assert_eq!((event.state.as_str(), event.attempts), ("DELIVERED", 1), "{:?}", manner.answer);
    }
    worker.stop().await;
    assert_eq!(requests.load(Ordering::SeqCst), events, "each was received once");
}

#[test]
fn a_2xx_is_success_whatever_its_body_does() {
    test(Load::Shared, async |world| {
        let answers = [
            "HTTP/1.1 200 OK\r\n\r\nwithout an end",
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12",
            "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ];
        for answer in answers {
            all_are_delivered_at_once(world, Manner { answer, closes: None }, 1).await;
            all_are_delivered_at_once(world, Manner { answer, closes: Some(Duration::ZERO) }, 1).await;
        }
    });
}

#[test]
fn answers_as_old_and_odd_receivers_give_them_are_understood() {
    test(Load::Shared, async |world| {
        let answers = [
            ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", Some(Duration::ZERO)),
            ("HTTP/1.0 200 OK\r\n\r\nuntil the connection ends", Some(Duration::ZERO)),
            ("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", Some(Duration::ZERO)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", None),
            ("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", None),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n",
                None,
            ),
        ];
        for (answer, closes) in answers {
            all_are_delivered_at_once(world, Manner { answer, closes }, 3).await;
        }
    });
}

#[test]
fn a_kept_connection_that_the_receiver_has_closed_costs_no_attempt() {
    test(Load::Shared, async |world| {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        for millis in [0, 1, 8] {
            let closes = Some(Duration::from_millis(millis));
            all_are_delivered_at_once(world, Manner { answer, closes }, 30).await;
        }
    });
}

#[test]
fn hundreds_of_headers_in_an_answer_are_no_failure() {
    test(Load::Shared, async |world| {
        let headers: String = (0..400).map(|n| format!("x-{n}: {n}\r\n")).collect();
        let answer = format!("HTTP/1.1 200 OK\r\n{headers}content-length: 0\r\n\r\n").leak();
        all_are_delivered_at_once(world, Manner { answer, closes: None }, 2).await;
    });
}

/// A receiver whose connections answer one request each, and then are dead without a word.
async fn dying_receiver() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
    let url = format!("http://{}/", listener.local_addr().expect("a bound port"));
    let ignored = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ignored);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let (mut buffer, mut answered) = ([0; 4_096], false);
                while let Ok(1..) = stream.read(&mut buffer).await {
                    if answered {
                        counted.fetch_add(1, Ordering::SeqCst);
                    } else {
                        answered = true;
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                    }
                }
            });
        }
    });
    (url, ignored)
}

#[test]
fn after_a_kept_connection_that_is_dead_the_next_try_takes_a_fresh_one() {
    test(Load::Shared, async |world| {
        let (url, ignored) = dying_receiver().await;
        let flags = ["--attempt-timeout=700ms", "--backoff-initial=100ms"];
        let worker = Worker::start(world, &flags).await;
        let (producer, database) = (Producer::connect(world).await, Database::connect(world).await);
        for round in 0..2 {
            let message = |n: usize| Message::new(&format!("user-{n}"), &format!("event-{round}-{n}"), &url).body("{}");
            producer.publish_all(&(0..8).map(message).collect::<Vec<_>>()).await;
            let all = 8 * (round + 1);
            asking(SOON, "all delivered", async || {
                let delivered = database.states().await.get("DELIVERED").copied();
                (delivered == Some(all)).then_some(())
            })
            .await;
        }
        assert!(ignored.load(Ordering::SeqCst) > 0, "kept connections were used again");
        let most = database.events().await.into_iter().map(|event| event.attempts).max();
        assert!(most.is_some_and(|most| most <= 2), "{most:?} attempts");
        worker.stop().await;
    });
}
