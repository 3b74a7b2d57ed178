//! What the receiver said.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderValue;
use http::header::{LOCATION, RETRY_AFTER};

use super::client::{self, Trouble};
use super::pool::Way;
use crate::clock;
use crate::domain::verdict::{NoResponse, Outcome, Phase};

/// The most of an answer's body that is read, so that its connection can be used again; more closes the connection.
const ANSWER_LIMIT: usize = 64 * 1024;
/// The most of an answer's body that is kept for the history.
const EXCERPT_LIMIT: usize = 512;
/// How long the body of a success is waited for, so that its connection can be used again.
const BODY_OF_SUCCESS_WITHIN: Duration = Duration::from_millis(500);

/// The status decides; the body is read only to use the connection again, and for the history. `succeeds`: it is one that the
/// destination's settings take for success.
pub async fn answer(mut response: reqwest::Response, succeeds: bool, deadline: Duration) -> Outcome {
    let status = response.status().as_u16();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(retry_after);
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut excerpt = Vec::new();
    let mut read = 0;
    let mut left = deadline.saturating_sub(clock::now());
    if succeeds {
        // It is delivered: what its body does may cost the connection, and holds up nothing.
        left = left.min(BODY_OF_SUCCESS_WITHIN);
    }
    let _ = tokio::time::timeout(left, async {
        while let Ok(Some(chunk)) = response.chunk().await {
            read += chunk.len();
            let room = EXCERPT_LIMIT.saturating_sub(excerpt.len());
            excerpt.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if read > ANSWER_LIMIT {
                break;
            }
        }
    })
    .await;
    let excerpt = match location {
        Some(location) if (300..400).contains(&status) => format!("redirect to {location}, not followed"),
        _ => String::from_utf8_lossy(&excerpt).into_owned(),
    };
    Outcome::Response { status, retry_after, excerpt }
}

/// RFC 9110 §10.2.3: a number of seconds, or a date.
fn retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than the type holds is the most.
        return Some(Duration::from_secs(text.parse::<u32>().unwrap_or(u32::MAX).into()));
    }
    let until = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(until.saturating_sub(Duration::from_secs(clock::unix_seconds())))
}

/// The words for a proxy's answer to CONNECT that is neither 200 nor 407: which one it is, they do not tell.
const NO_TUNNEL: &str = "tunnel error: unsuccessful";
const REFUSED_BY_PROXY: &str = "the proxy has refused the connection, by a status other than 407: its log says which";

/// What kind of silence an error is, with its causes, without the URL, which may hold a password.
pub(super) fn explain(error: &reqwest::Error, way: Way, within: Duration) -> NoResponse {
    let why = causes(error);
    let is_ours = error.is_connect() && way == Way::Proxy;
    if error.is_dns() && !is_ours {
        NoResponse::Dns(why)
    } else if client::cause::<rustls::Error>(error).is_some() {
        NoResponse::Tls(why)
    } else if is_ours {
        NoResponse::Proxy(why.replace(NO_TUNNEL, REFUSED_BY_PROXY))
    } else if error.is_timeout() && error.is_connect() {
        NoResponse::Late(within, Phase::Connecting)
    } else if error.is_connect() {
        NoResponse::Connect(why)
    } else if client::trouble(error) == Trouble::Closed {
        NoResponse::Closed(why)
    } else if client::cause::<h2::Error>(error).is_some()
        || client::cause::<hyper::Error>(error).is_some_and(|error| error.is_parse() || error.is_parse_status())
    {
        NoResponse::Protocol(why)
    } else {
        NoResponse::Broken(why)
    }
}

/// Each cause behind a colon.
fn causes(error: &reqwest::Error) -> String {
    let mut text = String::new();
    for cause in client::causes(error) {
        let next = cause.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
    }
    text
}
