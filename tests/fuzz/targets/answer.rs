//! A receiver's answer: its status, what it asks for by `Retry-After`, and what the history keeps of it.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::time::Duration;

use http::header::{HeaderValue, LOCATION, RETRY_AFTER};
use onceward::clock;
use onceward::deliver::answer::answer;
use onceward::domain::backoff::{Backoff, Delays};
use onceward::domain::verdict::{Attempts, Decision, Gone, Outcome, Policy};
use tokio::runtime::{Builder, Runtime};

use crate::engine::{Target, fuzz};

thread_local! {
    static RUNTIME: LazyCell<Runtime> =
        LazyCell::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));
}

const MAX: Duration = Duration::from_mins(1);

/// Lines: status, `Retry-After`, `Location`, how often the body comes; the rest is the body.
fn run(input: &[u8]) -> &'static str {
    let mut lines = input.splitn(5, |byte| *byte == b'\n');
    let [status, retry_after, location, times, body] = std::array::from_fn(|_| lines.next().unwrap_or_default());
    let number = |text: &[u8]| String::from_utf8_lossy(text).parse::<u16>().ok();
    let Some(status) = number(status).filter(|status| (200..1_000).contains(status)) else { return "no_status" };
    let body = body.repeat(number(times).map_or(1, |times| usize::from(times % 300)));
    let mut response = http::Response::builder().status(status);
    for (name, value) in [(RETRY_AFTER, retry_after), (LOCATION, location)] {
        if let Some(value) = HeaderValue::from_bytes(value).ok().filter(|value| !value.is_empty()) {
            response = response.header(name, value);
        }
    }
    let response = response.body(body).expect("an answer");
    let sent = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let response = response.into();
    let deadline = clock::now() + Duration::from_secs(1);
    let outcome = RUNTIME.with(|runtime| runtime.block_on(answer(response, (200..300).contains(&status), deadline)));
    let Outcome::Response { status: told, retry_after: asked, excerpt } = &outcome else { panic!("{outcome:?}") };
    assert_eq!(*told, status);
    let limit = if (300..400).contains(&status) { 3 * 512 + location.len() + 100 } else { 3 * 512 };
    assert!(excerpt.len() <= limit, "{} bytes are kept", excerpt.len());
    let digits = sent.trim();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let most = u64::from(u32::MAX);
        assert_eq!(*asked, Some(Duration::from_secs(digits.parse().unwrap_or(most).min(most))), "{digits}");
    }
    judged(&outcome, asked.is_some())
}

/// Whatever is asked for, the wait is bounded by the settings.
fn judged(outcome: &Outcome, asked: bool) -> &'static str {
    let backoff = Backoff { initial: Duration::from_secs(1), max: MAX, factor: 2.0, jitter: 0.1 };
    let policy = Policy {
        max_attempts: 5,
        max_unknown: 5,
        delays: Delays::Growing(backoff),
        retry_after_max: MAX,
        final_statuses: BTreeSet::from([410]),
        success_statuses: BTreeSet::new(),
        hold: false,
        gone: Gone::Fail,
    };
    match policy.judge(Attempts { begun: 1, unknown: 0 }, outcome, u64::MAX) {
        Decision::Deliver => "delivered",
        Decision::Fail(_) | Decision::Hold(_) => "failed",
        Decision::Retry(delay) => {
            assert!(delay <= MAX.mul_f64(1.1) && delay >= backoff.initial, "{delay:?}");
            if asked { "asked" } else { "retry" }
        }
        Decision::Withdraw(_) => "withdrawn",
    }
}

#[test]
fn answers() {
    let words = &[
        "\n",
        "Wed, 21 Oct 2099 07:28:00 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "410",
        "302",
        "200",
    ];
    fuzz(&Target { name: "answer", words, run });
}
