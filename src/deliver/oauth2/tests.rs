//! Against a token server of the test's own.

use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::routing::post;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::*;
use crate::domain::destination::Hidden;

/// A token server that numbers its tokens, and what it was asked last.
#[derive(Clone)]
struct Server {
    asked: Arc<AtomicUsize>,
    last: Arc<Mutex<(HeaderMap, Bytes)>>,
    /// Answers that may go out.
    gate: Arc<Semaphore>,
    url: url::Url,
}

impl Server {
    /// It answers as `answer` says of the number of a request, from 1.
    async fn new(answer: impl Fn(usize) -> (u16, String) + Clone + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://ignored:hidden@{}/token", listener.local_addr().unwrap()).parse().unwrap();
        let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        let server = Self { asked: Arc::default(), last: Arc::default(), gate, url };
        let shared = server.clone();
        let respond = move |headers: HeaderMap, body: Bytes| async move {
            let number = shared.asked.fetch_add(1, Ordering::SeqCst) + 1;
            *shared.last.lock().unwrap() = (headers, body);
            shared.gate.acquire().await.unwrap().forget();
            let (status, text) = answer(number);
            (StatusCode::from_u16(status).unwrap(), text)
        };
        let router = Router::new().route("/token", post(respond));
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }

    /// It gives out `t1`, `t2`, … for so long.
    async fn numbered(expires_in: u64) -> Self {
        Self::new(move |number| {
            (
                200,
                json!({ "access_token": format!("t{number}"), "token_type": "bearer", "expires_in": expires_in })
                    .to_string(),
            )
        })
        .await
    }

    fn oauth2(&self) -> OAuth2 {
        OAuth2 {
            token_url: self.url.clone(),
            client_id: "the client".into(),
            client_id_from: None,
            client_secret: Hidden("s:e/c+ret".into()),
            scopes: vec!["read".into(), "write".into()],
            audience: Some("https://api/".into()),
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().retry(reqwest::retry::never()).build().unwrap()
}

#[tokio::test]
async fn a_token_is_asked_for_as_the_rfc_has_it_and_kept() {
    let server = Server::numbered(3_600).await;
    let (tokens, client, oauth2) = (Tokens::default(), client(), server.oauth2());
    for _ in 0..3 {
        let token = tokens.bearer(&client, &oauth2).await.unwrap();
        assert_eq!((token.to_str().unwrap(), token.is_sensitive()), ("Bearer t1", true));
    }
    assert_eq!(server.asked(), 1);
    let (headers, body) = server.last.lock().unwrap().clone();
    let basic = format!("Basic {}", BASE64_STANDARD.encode("the%20client:s%3Ae%2Fc%2Bret"));
    assert_eq!(headers[AUTHORIZATION], basic);
    assert_eq!(headers[CONTENT_TYPE], "application/x-www-form-urlencoded");
    assert_eq!(body, "grant_type=client_credentials&scope=read+write&audience=https%3A%2F%2Fapi%2F");
    // Another secret, another token.
    let other = OAuth2 { client_secret: Hidden("other".into()), ..oauth2 };
    assert_eq!(tokens.bearer(&client, &other).await.unwrap(), "Bearer t2");
}

#[tokio::test]
async fn many_who_ask_at_once_get_the_same_token_of_one_fetch() {
    let server = Server::numbered(3_600).await;
    server.gate.forget_permits(Semaphore::MAX_PERMITS);
    let (tokens, client, oauth2) = (Tokens::default(), client(), server.oauth2());
    let ask = || {
        let (tokens, client, oauth2) = (tokens.clone(), client.clone(), oauth2.clone());
        tokio::spawn(async move { tokens.bearer(&client, &oauth2).await })
    };
    // The first one gives up: the fetch goes on for the others.
    let first = ask();
    while server.asked() == 0 {
        tokio::task::yield_now().await;
    }
    first.abort();
    let others: Vec<_> = (0..20).map(|_| ask()).collect();
    server.gate.add_permits(1);
    for other in others {
        assert_eq!(other.await.unwrap().unwrap(), "Bearer t1");
    }
    assert_eq!(server.asked(), 1);
}

#[tokio::test]
async fn a_token_that_a_receiver_refuses_is_renewed_once() {
    let server = Server::numbered(3_600).await;
    let (tokens, client, oauth2) = (Tokens::default(), client(), server.oauth2());
    let first = tokens.bearer(&client, &oauth2).await.unwrap();
    assert!(tokens.invalidate(&oauth2, &first));
    let second = tokens.bearer(&client, &oauth2).await.unwrap();
    assert_eq!(second, "Bearer t2");
    // Another request was under way with the first one: there is a newer one for it already.
    assert!(tokens.invalidate(&oauth2, &first));
    assert_eq!(tokens.bearer(&client, &oauth2).await.unwrap(), second);
    // A receiver that refuses whatever it gets does not make the token server suffer.
    assert!(!tokens.invalidate(&oauth2, &second));
    assert_eq!(tokens.bearer(&client, &oauth2).await.unwrap(), second);
    assert_eq!(server.asked(), 2);
}

#[tokio::test]
async fn a_token_that_has_ended_is_fetched_anew() {
    let server = Server::numbered(0).await;
    let (tokens, client, oauth2) = (Tokens::default(), client(), server.oauth2());
    assert_eq!(tokens.bearer(&client, &oauth2).await.unwrap(), "Bearer t1");
    assert_eq!(tokens.bearer(&client, &oauth2).await.unwrap(), "Bearer t2");
}

#[tokio::test]
async fn a_failure_is_told_and_holds_for_a_moment() {
    let server = Server::new(|_| (401, json!({ "error": "invalid_client", "x": 1 }).to_string())).await;
    let (tokens, client, oauth2) = (Tokens::default(), client(), server.oauth2());
    for _ in 0..3 {
        let told = tokens.bearer(&client, &oauth2).await.unwrap_err();
        assert_eq!(told.to_string(), "the token server answered 401 (invalid_client)");
    }
    assert_eq!(server.asked(), 1);
    assert!(tokens.look(&oauth2, clock::now() + FAILED_FOR).is_none(), "it is tried again later");

    let nobody = OAuth2 { token_url: "http://127.0.0.1:1/".parse().unwrap(), ..oauth2 };
    let told = tokens.bearer(&client, &nobody).await.unwrap_err();
    assert!(matches!(&told, TokenError::NoResponse(NoResponse::Connect(_))), "{told:?}");
    assert!(!told.to_string().contains("hidden"), "{told}");
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let server = Server::new(|_| (200, " ".repeat(LARGEST + 1))).await;
    assert_eq!(Tokens::default().bearer(&client(), &server.oauth2()).await, Err(TokenError::TooLarge));
}

#[tokio::test]
async fn tokens_are_not_kept_without_bound() {
    let server = Server::numbered(3_600).await;
    let (tokens, client, oauth2) = (Tokens::default(), client(), server.oauth2());
    for number in 0..MOST + 10 {
        drop(tokens.fetch(&client, &OAuth2 { client_id: number.to_string(), ..oauth2.clone() }));
    }
    assert_eq!(tokens.slots().len(), MOST);
}

#[test]
fn answers_are_read_or_refused() {
    let table = [
        (200, json!({ "access_token": "a" }), Ok("Bearer a")),
        (200, json!({ "access_token": "a", "token_type": "BEARER", "expires_in": "60" }), Ok("Bearer a")),
        (200, json!({ "access_token": "a", "token_type": "mac" }), Err(TokenError::OtherType)),
        (200, json!({ "access_token": "a\nb" }), Err(TokenError::Unreadable)),
        (200, json!({ "access_token": "" }), Err(TokenError::Unreadable)),
        (200, json!({ "access_token": 1 }), Err(TokenError::Unreadable)),
        (200, json!([]), Err(TokenError::Unreadable)),
        (201, json!({ "access_token": "a" }), Err(TokenError::Status { status: 201, code: None })),
        (400, json!({ "error": "a b" }), Err(TokenError::Status { status: 400, code: None })),
        (503, json!("x"), Err(TokenError::Status { status: 503, code: None })),
    ];
    for (status, body, expected) in table {
        let text = body.to_string();
        let read = read(StatusCode::from_u16(status).unwrap(), text.as_bytes());
        let read = read.as_ref().map(|(header, _)| header.to_str().unwrap());
        assert_eq!(read, expected.as_ref().map(|header| &**header), "{status} {text}");
    }
}

#[test]
fn a_token_is_given_up_before_it_ends() {
    let table = [
        (json!(3_600), 3_570.0),
        (json!("3600"), 3_570.0),
        (json!(60), 54.0),
        (json!(1.5), 1.35),
        (json!(0), 0.0),
        (json!(-5), 0.0),
        (json!("soon"), 270.0),
        (json!(null), 270.0),
        (json!("NaN"), 0.0),
        (json!(1e300), 86_370.0),
    ];
    for (expires_in, seconds) in table {
        let found = usable(Some(&expires_in)).as_secs_f64();
        assert!((found - seconds).abs() < 1e-6, "{expires_in}: {found}");
    }
}
